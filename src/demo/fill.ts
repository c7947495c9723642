import type pg from 'pg';
import { createApiKey } from '../accounts/apiKeys.js';
import { addCredit } from '../accounts/credits.js';
import { addOrganizationMember, createOrganization } from '../accounts/organizations.js';
import { createUser } from '../accounts/users.js';
import { LedgerError } from '../errors.js';
import type { Ledger } from '../ledgerTypes.js';
import type { UsageEvent } from '../record/types.js';
import { setDemoBudgets } from './budgets.js';
import { DEMO_ORGANIZATIONS, type DemoUser, demoUsers, keysOf } from './people.js';
import { uuidOf } from './random.js';
import { dayOfTraffic } from './traffic.js';

export interface FillReport {
  users: number;
  organizations: number;
  /** UTC days, inclusive. */
  from: string;
  until: string;
  recorded: number;
  /** Recorded by an earlier run. */
  duplicates: number;
  /** Microdollars of what this run recorded. */
  costMicrodollars: number;
}

const DAY_MS = 86_400_000;
/** Events handed to the ledger at once; it makes statements of them. */
const BATCH = 4_000;

/**
 * Writes the demo's people, credits, traffic and budgets through the ledger. Idempotent: ids follow from
 * what they name, and the traffic ends at the instant at which the first demo user was created.
 */
export async function fillDemo(
  ledger: Ledger,
  options: { days: number; users: number; onDay?: (done: number) => void },
): Promise<FillReport> {
  const users = demoUsers(options.users);
  await createPeople(ledger.pool, users);
  const endMs = await readAnchor(ledger.pool, users);
  const lastDayMs = Math.floor(endMs / DAY_MS) * DAY_MS;
  const dayOf = (index: number) =>
    new Date(lastDayMs - (options.days - 1 - index) * DAY_MS).toISOString().slice(0, 10);
  const report: FillReport = {
    users: users.length,
    organizations: DEMO_ORGANIZATIONS.length,
    from: dayOf(0),
    until: dayOf(options.days - 1),
    recorded: 0,
    duplicates: 0,
    costMicrodollars: 0,
  };
  let batch: UsageEvent[] = [];
  for (let index = 0; index < options.days; index++) {
    for (const user of users) {
      const events = dayOfTraffic(user, dayOf(index));
      batch.push(...events.filter((event) => Date.parse(String(event.created_at)) <= endMs));
    }
    if (batch.length >= BATCH || index === options.days - 1) {
      await record(ledger, batch, report);
      batch = [];
    }
    options.onDay?.(index + 1);
  }
  await setDemoBudgets(ledger, users);
  await setKeyUses(ledger.pool, users);
  await ledger.fold();
  return report;
}

async function record(ledger: Ledger, events: UsageEvent[], report: FillReport): Promise<void> {
  const results = await ledger.recordUsageBatch(events, { balance: false });
  for (const [index, result] of results.entries()) {
    if (result.status === 'rejected') throw result.error;
    if (result.status === 'duplicate') report.duplicates++;
    else {
      report.recorded++;
      report.costMicrodollars += events[index]?.cost ?? 0;
    }
  }
}

async function createPeople(pool: pg.Pool, users: readonly DemoUser[]): Promise<void> {
  for (const { id, name, creditUsd } of DEMO_ORGANIZATIONS) {
    await once(() => createOrganization(pool, { id, name }));
    await credit(pool, id, { organization_id: id, usd: creditUsd });
  }
  for (const user of users) {
    await once(() => createUser(pool, { id: user.id, name: user.name, email: user.email }));
    await credit(pool, user.id, { kilo_user_id: user.id, usd: user.creditUsd });
    const { organizationId } = user;
    if (organizationId !== null) {
      await once(() => addOrganizationMember(pool, organizationId, user.id, user.role));
    }
    for (const { id, name, isOrganizations } of keysOf(user)) {
      const payer = {
        kilo_user_id: user.id,
        organization_id: isOrganizations ? organizationId : null,
      };
      await once(() => createApiKey(pool, { id, name, ...payer, scopes: ['gateway'] }));
    }
  }
}

function credit(
  pool: pg.Pool,
  payer: string,
  amount: { kilo_user_id?: string; organization_id?: string; usd: number },
): Promise<unknown> {
  const id = uuidOf(`demo credit ${payer}`);
  return once(() => addCredit(pool, { ...amount, id, description: 'demo' }));
}

/** Done by an earlier run is done. */
async function once(create: () => Promise<unknown>): Promise<void> {
  try {
    await create();
  } catch (error) {
    if (!(error instanceof LedgerError) || error.code !== 'already_exists') throw error;
  }
}

/** When each key was last paid with, as the gateway would have noted it. */
async function setKeyUses(pool: pg.Pool, users: readonly DemoUser[]): Promise<void> {
  await pool.query(
    `/* demo.keyUses */
    update api_keys as k
    set last_used_at = greatest(k.last_used_at, (
      select max(m.created_at)
      from microdollar_usage as m
      where m.kilo_user_id = k.kilo_user_id
        and m.api_key_id = k.id))
    where k.kilo_user_id = any ($1::text[])`,
    [users.map(({ id }) => id)],
  );
}

/** When the first demo user was created, ms: traffic ends there, at every run. */
async function readAnchor(pool: pg.Pool, users: readonly DemoUser[]): Promise<number> {
  const result = await pool.query<{ created_at: Date }>(
    '/* demo.anchor */ select created_at from kilocode_users where id = $1::text',
    [users[0]?.id],
  );
  const createdAt = result.rows[0]?.created_at;
  if (createdAt === undefined) throw new LedgerError('internal', 'the demo users were not created');
  return createdAt.getTime();
}
