/**
 * A program of a user of the package: each of its parts as the documents show it, on the empty
 * database of DATABASE_URL. Prints what it read.
 */
import { randomUUID } from 'node:crypto';
import { eq, sum } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import {
  addCredit,
  createLedger,
  createUser,
  fromMicrodollars,
  insertUsageAndMetadataWithBalanceUpdate,
  type Ledger,
  LedgerError,
  migrate,
} from 'microdollar';
import * as schema from 'microdollar/schema';
import { createPricer, meteredFetch } from 'microdollar/sdk';
import { insertMicrodollarUsageWithDailyRollup } from 'microdollar/testing';
import { CHAT_ANSWER } from './chatAnswer.js';

const databaseUrl = process.env.DATABASE_URL;
if (databaseUrl === undefined) throw new Error('DATABASE_URL is not set');
const user = process.argv[2] ?? 'ada';

await migrate(databaseUrl);
const ledger: Ledger = await createLedger({ databaseUrl });
try {
  await createUser(ledger.pool, { id: user });
  const answer: { requests: number; spent: string; days: number; refused: string } = {
    requests: await record(ledger),
    spent: await spentBy(),
    days: (
      await ledger.getDailyUsage({ kilo_user_id: user, from: '2025-01-01', until: '2025-12-31' })
    ).length,
    refused: await refusalOf(ledger),
  };
  console.log(JSON.stringify(answer));
} finally {
  await ledger.close();
}

/** By the library, by a transaction of the host's own, by the SDK, and by a test's raw rows. */
async function record(to: Ledger): Promise<number> {
  const { new_microdollars_used } = await to.recordUsage({
    id: randomUUID(),
    kilo_user_id: user,
    cost: 1_250,
    model: 'gpt-4o',
    metadata: { editor_name: 'vscode', latency: 231 },
  });
  if (new_microdollars_used !== 1_250) throw new Error(`${new_microdollars_used}`);

  await addCredit(to.pool, { kilo_user_id: user, usd: '0.01' });
  const hold = await to.hold({ id: randomUUID(), kilo_user_id: user, amount: 5_000 });
  if (hold.status === 'refused') throw new Error(`${hold.available_microdollars} left`);
  await to.settle(hold.id, { kilo_user_id: user, cost: 1_000 });

  // Types of pg are the ledger's own: a pool is not `any` here.
  const db = drizzle(to.pool, { schema });
  await db.transaction((tx) =>
    insertUsageAndMetadataWithBalanceUpdate(tx, { kilo_user_id: user, cost: 500 }, null),
  );

  const provider = async () => Response.json(CHAT_ANSWER);
  const fetch = meteredFetch(to, {
    kilo_user_id: user,
    fetch: provider,
    pricer: createPricer(),
    onRecorded: (_result, event) => {
      if (event.cost === 0) throw new Error('a call of the SDK without a cost');
    },
  });
  const body = JSON.stringify({ model: 'gpt-4o', messages: [{ role: 'user', content: 'hi' }] });
  await fetch('https://api.openai.com/v1/chat/completions', { method: 'POST', body });

  await insertMicrodollarUsageWithDailyRollup(to.pool, [
    { kilo_user_id: user, cost: 250, created_at: '2025-03-01T12:00:00Z' },
  ]);

  const { microdollarUsage: usage } = schema;
  const ofUser = eq(usage.kilo_user_id, user);
  const rows = await db.select({ id: usage.id }).from(usage).where(ofUser);
  return rows.length;
}

async function spentBy(): Promise<string> {
  const { microdollarUsageDailyExact: daily } = schema;
  const [row] = await drizzle(ledger.pool)
    .select({ total: sum(daily.total_cost_microdollars) })
    .from(daily)
    .where(eq(daily.kilo_user_id, user));
  const { rows } = await ledger.pool.query<{ microdollars_used: string }>(
    'select microdollars_used::text from kilocode_user_balances where kilo_user_id = $1',
    [user],
  );
  if (row?.total !== rows[0]?.microdollars_used) throw new Error('two totals of one user');
  return String(fromMicrodollars(Number(row?.total)));
}

async function refusalOf(by: Ledger): Promise<string> {
  try {
    await by.recordUsage({ kilo_user_id: 'nobody', cost: 1 });
    return 'none';
  } catch (error) {
    return error instanceof LedgerError ? error.code : 'not a LedgerError';
  }
}
