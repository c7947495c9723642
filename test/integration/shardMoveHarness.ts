import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { expect } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { addOrganizationMember } from '../../src/accounts/organizations.js';
import { setAlert } from '../../src/alerts/alerts.js';
import { setBudget } from '../../src/budgets/budgets.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { migrateShards } from '../../src/shards/migrateShards.js';
import { Moves } from '../../src/shards/move/moves.js';
import { STATE_TABLES } from '../../src/shards/move/payerTables.js';
import { createShardedLedger } from '../../src/shards/shardedLedger.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { openPool } from '../support/openPool.js';
import { foldBudgets } from './budgetHarness.js';
import { addGrant, ago, expirerOf, setExpiry } from './grantHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

export type PayerName = { kilo_user_id: string } | { organization_id: string };

export interface MoveFixture {
  /** Home, where everybody is by the rule. */
  a: LedgerFixture;
  /** On a server of its own: its transaction ids are others. */
  b: LedgerFixture;
  ledgers: { a: Ledger; b: Ledger };
  /** Both as one, with work in the background. */
  sharded: Ledger;
  moves: Moves;
  /** Both shards are exact by themselves. */
  expectExact(): Promise<void>;
  close(): Promise<void>;
}

/** Of the sessions of a hand-over that of the source, where it has read. */
export const END_SOURCE = `
  select pg_terminate_backend(pid, 5000)
  from pg_stat_activity
  where datname = current_database()
    and state = 'idle in transaction'
    and query like '/* shards.clearAcquired%'`;

export async function createMoveFixture(): Promise<MoveFixture> {
  const [a, b] = await Promise.all([
    createLedgerFixture(),
    createLedgerFixture({ ownServer: true }),
  ]);
  const shards = [
    { name: 'a', databaseUrl: a.database.url },
    { name: 'b', databaseUrl: b.database.url },
  ] as const;
  await migrateShards(shards);
  await a.rows(`update microdollar_shards set is_placing = name = 'a'`);
  const ledgers = { a: await a.open(), b: await b.open() };
  const sharded = await createShardedLedger({ shards, poolSize: 4 });
  // Of its own: whoever writes on the pools of the fixture keeps nobody waiting. Of few rows any plan is good.
  const options = '-c plan_cache_mode=force_generic_plan';
  const pools = shards.map(({ databaseUrl }) =>
    openPool({ connectionString: databaseUrl, max: 4, options, idleTimeoutMillis: 60_000 }),
  );
  const [home, other] = pools as [pg.Pool, pg.Pool];
  return {
    a,
    b,
    ledgers,
    sharded,
    moves: new Moves({
      shards: [
        { name: 'a', pool: home },
        { name: 'b', pool: other },
      ],
    }),
    expectExact: async () => {
      expect(await checkInvariants(a.database.pool)).toEqual([]);
      expect(await checkInvariants(b.database.pool)).toEqual([]);
    },
    close: async () => {
      await sharded.close();
      await Promise.all(pools.map((pool) => pool.end()));
      await Promise.all([a.close(), b.close()]);
    },
  };
}

const METADATA = {
  http_user_agent: 'client/1.0',
  editor_name: 'vscode',
  finish_reason: 'stop',
  feature: 'chat',
  session_id: 's',
  machine_id: 'm',
  latency: 0.1234567890123,
  status_code: 200,
  upstream_id: 'up',
};

const day = (before: number, hour = 12) => {
  const at = new Date();
  at.setUTCDate(at.getUTCDate() - before);
  at.setUTCHours(hour, 3, 4, 567);
  return at.toISOString();
};

/** A payer with a row in every table that a payer may have a row in. @returns its name */
export async function addFullPayer(
  { a, ledgers }: Pick<MoveFixture, 'a' | 'ledgers'>,
  scope: 'user' | 'organization',
): Promise<PayerName> {
  const ledger = ledgers.a;
  const user = await a.addUser();
  const organization = scope === 'user' ? null : await a.addOrganization();
  const payer: PayerName =
    organization === null ? { kilo_user_id: user } : { organization_id: organization };
  const id = organization ?? user;
  const pays = { kilo_user_id: user, organization_id: organization };
  if (organization !== null) {
    await addOrganizationMember(ledger.pool, organization, user, 'owner');
  }
  const key = await createApiKey(ledger.pool, { ...pays, scopes: ['gateway'] });
  await ledger.recordUsage({
    ...pays,
    cost: 4_000,
    model: 'before',
    created_at: ago(7_200_000),
    metadata: METADATA,
  });
  const grants = [await addGrant(ledger, payer, 9_000), await addGrant(ledger, payer, 3_000, 1)];
  await ledger.recordUsage({ ...pays, cost: 2_000, created_at: ago(7_100_000) });
  await setExpiry(a, grants.slice(1), ago(3_600_000));
  await expirerOf(ledger).expireDue();
  // Late for the grant that has expired, and of its time.
  await ledger.recordUsage({ ...pays, cost: 700, created_at: ago(3_700_000) });
  await addCredit(ledger.pool, { ...payer, usd: 5 });
  const budget = await setBudget(
    { pool: ledger.pool, folder: ledger.budgetFolder },
    { scope, id, limit_usd: '0.01', window: 'total', mode: 'soft' },
  );
  await setBudget(
    { pool: ledger.pool, folder: ledger.budgetFolder },
    { scope: 'key', id: key.id, limit_usd: '5', window: 'month' },
  );
  await a.rows(
    `insert into usage_alert_webhooks (payer_scope, payer_id, url, secret)
     values ($1, $2, 'https://hooks.example/own', 's')`,
    [scope, id],
  );
  await setAlert(ledger.alertStore, { kind: 'budget', budget_id: budget.id });
  await setAlert(ledger.alertStore, { kind: 'balance', ...payer, below_usd: '0.001' });
  await setAlert(ledger.alertStore, { kind: 'spend', ...payer, floor_usd: '0.001' });
  for (const [index, before] of [40, 2, 1, 0, 0].entries()) {
    await ledger.recordUsage({
      ...pays,
      cost: index === 1 ? 0 : 2_000 + index,
      model: `model ${index % 2}`,
      provider: 'provider',
      project_id: index === 2 ? 'project' : null,
      api_key_id: key.id,
      input_tokens: 10 ** index,
      output_tokens: 9_007_199_254_740_991,
      tags: ['one', 'two'],
      end_user: 'somebody',
      created_at: before === 0 ? null : day(before),
      has_error: index === 3,
      metadata: { ...METADATA, editor_name: `editor ${index}` },
    });
  }
  const paid = await ledger.recordUsage({ ...pays, cost: 900, metadata: METADATA });
  await ledger.recordUsage({
    ...pays,
    cost: -300,
    metadata: { adjusts_usage_id: paid.id, correction_number: 1 },
  });
  await ledger.recordUsage({ ...pays, cost: 0, metadata: { unpriced: true } });
  // Below the free allowance, and above it.
  for (const cost of [6_000_000, 5_000_000]) {
    await ledger.recordExaUsage({ ...pays, cost, path: '/search' });
  }
  await foldBudgets(ledger, scope === 'user' ? { user } : { organization: id });
  const held = await ledger.hold({ ...pays, amount: 1_000, api_key_id: key.id });
  expect(held.status).toBe('granted');
  await ledger.release((await ledger.hold({ ...pays, amount: 10 })).id);
  await foldBudgets(ledger, scope === 'user' ? { user } : { organization: id });
  const request = [user, organization, key.id];
  await a.rows(
    `insert into gateway_intents (id, owner, kilo_user_id, organization_id, api_key_id, api_kind,
       input_tokens_estimate, streamed, created_at)
     values ($4, gen_random_uuid(), $1, $2, $3, 'chat_completions', 5, true, now())`,
    [...request, held.id],
  );
  await a.rows(
    `insert into gateway_responses (usage_id, response_id, upstream, kilo_user_id, organization_id,
       api_key_id, api_kind, input_tokens_estimate, streamed, created_at, details)
     values ($4, 'resp', 'openai', $1, $2, $3, 'responses', 5, false, now(), '{"a": 1.50}')`,
    [...request, randomUUID()],
  );
  await a.rows(
    `insert into gateway_response_items (item_id, usage_id, kilo_user_id)
     select 'msg_' || usage_id, usage_id, kilo_user_id from gateway_responses where kilo_user_id = $1`,
    [user],
  );
  await a.rows(
    `insert into rollup_repairs (counter, kilo_user_id, organization_id, period,
       before_microdollars, after_microdollars, cause)
     values ('microdollar_usage_daily', $1, $2, '2025-01-02', 1, 2, 'a test')`,
    [user, organization],
  );
  return payer;
}

/** What means something else on another shard, by table. */
const OWN_COLUMNS: Readonly<Record<string, readonly string[]>> = {
  credit_transactions: ['sequence'],
  credit_expiries: ['counted_below', 'counted_except', 'late_ids', 'look_at'],
  budget_windows: ['id'],
  headroom: ['window_id'],
  usage_holds: ['window_ids'],
  usage_alert_deliveries: ['leased_until'],
  rollup_marks: ['settled_below', 'settled_except'],
};

const scopeOf = (payer: PayerName) => ('kilo_user_id' in payer ? 'user' : 'organization');
export const idOf = (payer: PayerName) => Object.values(payer)[0] as string;

/** Rows by table, whatever the shard, and what is reported of the payer. */
export async function describePayer(
  fixture: LedgerFixture,
  payer: PayerName,
): Promise<Record<string, unknown[]>> {
  const { USER_SCOPE, ORGANIZATION_SCOPE } = await import('../../src/schema/unsettled.js');
  const scope = scopeOf(payer) === 'user' ? USER_SCOPE : ORGANIZATION_SCOPE;
  const id = idOf(payer);
  const described: Record<string, unknown[]> = {};
  // Prepared: to plan the views is most of what they cost here.
  const rowsOf = async (of: string, text: string) => {
    const name = `describe ${scope.name} ${of}`;
    const { rows } = await fixture.database.pool.query<{ row: string }>({
      name,
      text: `${text} order by 1`,
      values: [id],
    });
    return rows.map(({ row }) => row);
  };
  for (const { name, isOf, also } of STATE_TABLES) {
    const condition = isOf(scope);
    // A fold distributes it among the slots; its sum is in `slots` below.
    if (condition === null || name === 'headroom') continue;
    const own = (OWN_COLUMNS[name] ?? []).join(',');
    described[name] = await rowsOf(
      name,
      `select ((to_jsonb(r)${also ? ` || ${also(scope)}` : ''}) - '{${own}}'::text[])::text as row
       from ${name} as r where ${condition}`,
    );
  }
  const paid = (row: string) =>
    scope === USER_SCOPE
      ? `${row}.kilo_user_id = $1 and ${row}.organization_id is null`
      : `${row}.organization_id = $1::uuid`;
  const queries: Record<string, string> = {
    microdollar_usage: `select (to_jsonb(r) - 'position')::text as row
      from microdollar_usage r where ${paid('r')}`,
    exa_usage_log: `select (to_jsonb(r) - 'position')::text as row
      from exa_usage_log r where ${paid('r')}`,
    microdollar_usage_metadata: `select (to_jsonb(m) || jsonb_build_object(
        'http_user_agent_id', (select http_user_agent from http_user_agent l
          where l.http_user_agent_id = m.http_user_agent_id),
        'editor_name_id', (select editor_name from editor_name l
          where l.editor_name_id = m.editor_name_id),
        'finish_reason_id', (select finish_reason from finish_reason l
          where l.finish_reason_id = m.finish_reason_id),
        'feature_id', (select feature from feature l where l.feature_id = m.feature_id)))::text as row
      from microdollar_usage_metadata m join microdollar_usage r using (id) where ${paid('r')}`,
    daily: `select to_jsonb(r)::text as row from microdollar_usage_daily_exact r
      where ${paid('r')} and total_cost_microdollars <> 0`,
    by_dimension: `select to_jsonb(r)::text as row from microdollar_usage_daily_by_dimension_exact r
      where ${paid('r')}`,
    quarter_hourly: `select to_jsonb(r)::text as row from microdollar_usage_quarter_hourly_exact r
      where ${paid('r')}`,
    exa: `select to_jsonb(r)::text as row from exa_monthly_usage_exact r where ${paid('r')}`,
    slots: `select concat_ws(' ', w.budget_id, w.window_start, sum(h.remaining_microdollars)) as row
      from budgets b join budget_windows w on w.budget_id = b.id join headroom h on h.window_id = w.id
      where b.payer_id = $1::text group by w.budget_id, w.window_start`,
    balance:
      scope === USER_SCOPE
        ? 'select microdollars_used::text as row from kilocode_user_balances where kilo_user_id = $1'
        : `select microdollars_used::text as row from organization_balances
           where organization_id = $1::uuid`,
    payer: `select (to_jsonb(u) - '{microdollars_used,settled_below,settled_except,exa_settled_below,
        exa_settled_except,is_elsewhere,scrub_after_xid}'::text[])::text as row
      from ${scope.payers} u where id::text = $1::text`,
  };
  for (const [name, text] of Object.entries(queries)) {
    described[name] = await rowsOf(name, text);
  }
  return described;
}

/** Tables with rows that name the payer anywhere: found without knowing what a move knows. */
export async function tablesNaming(fixture: LedgerFixture, payer: PayerName): Promise<string[]> {
  const tables = await fixture.rows<{ name: string }>(
    `select c.relname as name from pg_class c
     where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
       -- They stay where the gateway looks for them.
       and c.relname not in ('gateway_intents', 'gateway_responses', 'gateway_response_items')
     order by 1`,
  );
  const naming = await fixture.rows<{ name: string }>(
    tables
      .map(
        ({ name }) => `select '${name}' as name
           where exists (select from ${name} as t where position($1 in to_jsonb(t)::text) > 0)`,
      )
      .join(' union all '),
    [idOf(payer)],
  );
  return naming.map(({ name }) => name);
}
