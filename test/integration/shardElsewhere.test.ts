import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createApiKey, renameApiKey, revokeApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { removeOrganizationMember, setMemberRole } from '../../src/accounts/memberships.js';
import { addOrganizationMember, createOrganization } from '../../src/accounts/organizations.js';
import { createUser } from '../../src/accounts/users.js';
import { removeAlert, setAlert } from '../../src/alerts/alerts.js';
import { addWebhook, removeWebhook, rotateWebhookSecret } from '../../src/alerts/webhooks.js';
import { changeBudget, removeBudget, setBudget } from '../../src/budgets/budgets.js';
import type { LedgerError } from '../../src/errors.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { insertUsageAndMetadataWithBalanceUpdate } from '../../src/record/onExecutor.js';
import { until } from '../support/gateway.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

/** What is to be refused once its payer is elsewhere, after the same was possible before. */
interface Payer {
  kilo_user_id: string;
  organization_id: string | null;
}

let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  await fixture.rows(
    `update ledger_settings set installation_id = gen_random_uuid(), shard_name = 'a'`,
  );
  ledger = await fixture.open({ allowPrivateWebhooks: true });
});

afterAll(() => fixture.close());

async function fence({ kilo_user_id, organization_id }: Payer, isElsewhere = true): Promise<void> {
  await (organization_id === null
    ? fixture.rows('update kilocode_users set is_elsewhere = $2 where id = $1', [
        kilo_user_id,
        isElsewhere,
      ])
    : fixture.rows('update organizations set is_elsewhere = $2 where id = $1', [
        organization_id,
        isElsewhere,
      ]));
}

const COUNTS = `
select (select count(*) from microdollar_usage) as usage, (select count(*) from exa_usage_log) as exa,
  (select count(*) from usage_holds where released_at is null) as holds,
  (select sum(amount_microdollars) from usage_holds) as held,
  (select count(*) from credit_transactions) as credits,
  (select count(*) from api_keys where revoked_at is null and name is null) as keys,
  (select count(*) from budgets where removed_at is null and is_hard) as budgets,
  (select sum(limit_microdollars) from budgets) as limits,
  (select count(*) from usage_alerts where removed_at is null) as alerts,
  (select count(*) from usage_alert_webhooks where removed_at is null) as webhooks,
  (select array_agg(role order by role) from organization_memberships) as roles`;

describe.each(['user', 'organization'] as const)('of a %s that is elsewhere', (kind) => {
  let payer: Payer;
  let other: Payer;
  let made: Awaited<ReturnType<typeof makeAll>>;

  beforeAll(async () => {
    const user = await fixture.addUser();
    const organization = kind === 'organization' ? await fixture.addOrganization() : null;
    payer = { kilo_user_id: user, organization_id: organization };
    // The other scope of the same user, which is here.
    other = {
      kilo_user_id: user,
      organization_id: kind === 'organization' ? null : await fixture.addOrganization(),
    };
    made = await makeAll(payer);
    await fence(payer);
  });

  async function makeAll(whose: Payer) {
    const { pool, budgetFolder: folder, alertStore } = ledger;
    const { kilo_user_id: user, organization_id: organization } = whose;
    const alone =
      organization === null ? { kilo_user_id: user } : { organization_id: organization };
    await addCredit(pool, { ...alone, usd: 10 });
    if (organization !== null) await addOrganizationMember(pool, organization, user);
    await ledger.recordUsage({ ...whose, cost: 1 });
    const id = organization ?? user;
    const scope = organization === null ? 'user' : 'organization';
    const budget = { scope, id, limit_usd: '5', window: 'day' } as const;
    return {
      hold: await ledger.hold({ ...whose, amount: 10 }),
      key: await createApiKey(pool, { ...whose, scopes: ['gateway'] }),
      budget: await setBudget({ pool, folder }, budget as never),
      alert: await setAlert(alertStore, { kind: 'balance', ...alone, below_usd: 1 }),
      webhook: await addWebhook(alertStore, { ...alone, url: 'http://127.0.0.1:9/x' }),
    };
  }

  function attempts(whose: Payer): Record<string, () => Promise<unknown>> {
    const { pool, budgetFolder: folder, alertStore } = ledger;
    const { kilo_user_id: user, organization_id: organization } = whose;
    const alone =
      organization === null ? { kilo_user_id: user } : { organization_id: organization };
    const event = { ...whose, cost: 3 };
    const budget = {
      scope: kind,
      id: organization ?? user,
      limit_usd: '7',
      window: 'week',
    } as const;
    const batch = async () => {
      const [result] = await ledger.recordUsageBatch([event, { ...event }, { ...event, cost: 0 }]);
      if (result?.status === 'rejected') throw result.error;
    };
    return {
      usage: () => ledger.recordUsage(event),
      'usage with metadata and a time': () =>
        ledger.recordUsage({ ...event, created_at: new Date(), metadata: { latency: 1 } }),
      batch,
      exa: () => ledger.recordExaUsage({ ...event, path: '/search' }),
      'on a pool of a host': () =>
        insertUsageAndMetadataWithBalanceUpdate(fixture.database.pool, event),
      'in a transaction of a host': async () => {
        const client = await fixture.database.pool.connect();
        try {
          await client.query('begin');
          await insertUsageAndMetadataWithBalanceUpdate(client, event);
        } finally {
          await client.query('rollback');
          client.release();
        }
      },
      hold: () => ledger.hold({ ...whose, amount: 1 }),
      'hold of a client': () => ledger.holdForClient({ ...whose, amount: 1 }),
      settle: () => ledger.settle(made.hold.id, { ...whose, cost: 1 }),
      extend: () => ledger.extend(made.hold.id, 20),
      release: () => ledger.release(made.hold.id),
      credit: () => addCredit(pool, { ...alone, usd: 1 }),
      'credit that expires': () =>
        addCredit(pool, { ...alone, usd: 1, expires_at: '2999-01-01T00:00:00Z' }),
      key: () => createApiKey(pool, { ...whose, scopes: ['gateway'] }),
      'name of a key': () => renameApiKey(pool, made.key.id, 'n'),
      'end of a key': () => revokeApiKey(pool, made.key.id),
      budget: () => setBudget({ pool, folder }, budget as never),
      'budget of a key': () =>
        setBudget({ pool, folder }, { ...budget, scope: 'key', id: made.key.id } as never),
      'change of a budget': () =>
        changeBudget({ pool, folder }, made.budget.id, { limit_usd: '1' }),
      'end of a budget': () => removeBudget({ pool, folder }, made.budget.id),
      alert: () => setAlert(alertStore, { kind: 'balance', ...alone, below_usd: 2 }),
      'end of an alert': () => removeAlert(pool, made.alert.id),
      webhook: () => addWebhook(alertStore, { ...alone, url: 'http://127.0.0.1:9/y' }),
      'secret of a webhook': () => rotateWebhookSecret(pool, made.webhook.id, 0),
      'end of a webhook': () => removeWebhook(pool, made.webhook.id),
      ...(organization === null
        ? {}
        : {
            member: async () => addOrganizationMember(pool, organization, await fixture.addUser()),
            role: () => setMemberRole(pool, organization, user, 'owner'),
            'end of a member': () => removeOrganizationMember(pool, organization, user),
          }),
    };
  }

  it('every write, hold, credit and change is refused, and nothing is changed', async () => {
    const before = await fixture.rows(COUNTS);
    const refused = await Promise.all(
      Object.entries(attempts(payer)).map(async ([name, attempt]) => {
        const error = await ledgerErrorOf(attempt());
        return [name, error.code, error.details.is_elsewhere ?? false];
      }),
    );
    // By its id alone there is nothing here.
    const unknown = (name: string) =>
      /^(name|end|change|secret) of a[n]? (key|budget|alert|webhook)|^budget of a key/.test(name);
    expect(refused).toEqual(
      Object.keys(attempts(payer)).map((name) =>
        unknown(name) ? [name, 'not_found', false] : [name, `unknown_${kind}`, true],
      ),
    );
    expect(await fixture.rows(COUNTS)).toEqual(before);
  });

  it('a webhook whose address was looked up while its payer left is not added', async () => {
    const before = await fixture.rows(COUNTS);
    await fence(payer, false);
    const lookup = async () => {
      await fence(payer);
      return [{ address: '9.9.9.9', family: 4 }];
    };
    const store = { ...ledger.alertStore, allowsPrivate: false, lookup };
    const { organization_id: id, kilo_user_id: user } = payer;
    const webhook = { ...(id === null ? { kilo_user_id: user } : { organization_id: id }) };
    const error = await ledgerErrorOf(addWebhook(store, { ...webhook, url: 'https://h.example' }));
    expect(error).toMatchObject({ details: { is_elsewhere: true } });
    expect(await fixture.rows(COUNTS)).toEqual(before);
  });

  it('what the same user does in the other scope is not', async () => {
    expect(await ledger.recordUsage({ ...other, cost: 2 })).toMatchObject({ status: 'recorded' });
    expect(
      await ledger.recordUsageBatch([
        { ...other, cost: 2 },
        { ...other, cost: 3 },
      ]),
    ).toMatchObject([{ status: 'recorded' }, { status: 'recorded' }]);
    await ledger.recordExaUsage({ ...other, cost: 2, path: '/x' });
    await ledger.hold({ ...other, amount: 0 });
  });

  it('one that is refused beside others does not fail them', async () => {
    const results = await ledger.recordUsageBatch([
      { ...payer, cost: 1 },
      { ...other, cost: 2 },
      { ...payer, cost: 0 },
    ]);
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'recorded', 'rejected']);
  });

  it('a replay is still known, and the payer that is back writes again', async () => {
    const id = randomUUID();
    await fence(payer, false);
    await ledger.recordUsage({ ...payer, id, cost: 4 });
    await fence(payer);
    expect(await ledger.recordUsage({ ...payer, id, cost: 4 })).toMatchObject({
      status: 'duplicate',
    });
    expect(await ledgerErrorOf(ledger.recordUsage({ ...payer, cost: 4 }))).toMatchObject({
      details: { is_elsewhere: true },
    });
    await fence(payer, false);
    expect(await ledger.recordUsage({ ...payer, cost: 4 })).toMatchObject({ status: 'recorded' });
    await fixture.expectExact();
  });
});

it('a process that knew its payers before the ledger became a shard looks again', async () => {
  const own = await createLedgerFixture();
  try {
    const early = await own.open();
    const user = await own.addUser();
    const events = [1, 2].map((cost) => ({ kilo_user_id: user, cost }));
    await early.recordUsageBatch(events);
    await own.rows(
      `update ledger_settings set installation_id = gen_random_uuid(), shard_name = 'a'`,
    );
    await until(() => early.getReadMode()?.shardName === 'a');
    await own.rows('update kilocode_users set is_elsewhere = true where id = $1', [user]);
    const refused = await early.recordUsageBatch([...events, ...events]);
    expect(refused.map(({ status }) => status)).toEqual(Array(4).fill('rejected'));
    const alone = early.recordUsage({ kilo_user_id: user, cost: 1 });
    expect(await ledgerErrorOf(alone)).toMatchObject({ code: 'unknown_user' });
  } finally {
    await own.close();
  }
});

it('a grant of a payer that is elsewhere does not expire here', async () => {
  const { GrantExpirer } = await import('../../src/accounts/grants/expirer.js');
  const { USER_SCOPE } = await import('../../src/schema/unsettled.js');
  const user = await fixture.addUser();
  const soon = new Date(Date.now() + 60_000);
  await addCredit(ledger.pool, { kilo_user_id: user, usd: 1, expires_at: soon });
  await fixture.rows(
    `with c as (update credit_transactions set expires_at = now() where kilo_user_id = $1)
     update credit_expiries set expires_at = now(), look_at = now() where payer_id = $1`,
    [user],
  );
  const errors: unknown[] = [];
  const expirer = new GrantExpirer({
    pool: ledger.pool,
    named: true,
    withdrawals: ledger.budgetFolder,
    onError: (error) => errors.push(error),
  });
  await fence({ kilo_user_id: user, organization_id: null });
  expect(await expirer.expirePayer(USER_SCOPE, user)).toEqual([]);
  expect((await expirer.expireDue()).expired).toEqual([]);
  await fence({ kilo_user_id: user, organization_id: null }, false);
  expect(await expirer.expirePayer(USER_SCOPE, user)).toMatchObject([{ payer_id: user }]);
  expect(errors).toEqual([]);
});

it('a new payer is not made where its bucket has left, or is leaving', async () => {
  const bucket = 17;
  await createUser(ledger.pool, { id: 'before' }, bucket);
  const away = async (set: string): Promise<LedgerError[]> => {
    await fixture.rows(set, [bucket]);
    return [
      await ledgerErrorOf(createUser(ledger.pool, { id: randomUUID() }, bucket)),
      await ledgerErrorOf(createOrganization(ledger.pool, { name: 'o' }, bucket)),
    ];
  };
  const refusals = [
    ...(await away(`insert into microdollar_shard_directory (bucket, shard) values ($1, 'b')`)),
    ...(await away(
      `update microdollar_shard_directory set shard = 'a', moving_to = 'b', step = 'fenced' where bucket = $1`,
    )),
  ];
  expect(refusals.map(({ code }) => code)).toEqual([
    'unknown_user',
    'unknown_organization',
    'unknown_user',
    'unknown_organization',
  ]);
  await createUser(ledger.pool, { id: randomUUID() }, bucket + 1);
  await createUser(ledger.pool, { id: randomUUID() });
});
