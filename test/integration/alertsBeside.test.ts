import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { softDeleteUser } from '../../src/accounts/softDelete.js';
import { listAlerts, setAlert } from '../../src/alerts/alerts.js';
import { setAlertStatement } from '../../src/alerts/alerts.sql.js';
import { addWebhook, listWebhooks } from '../../src/alerts/webhooks.js';
import { ADD_WEBHOOK } from '../../src/alerts/webhooks.sql.js';
import { removeBudget, setBudget } from '../../src/budgets/budgets.js';
import {
  MOVE_ALERTS,
  RETIRE_OTHER_ZONE,
  SET_BUDGET,
  type SetRow,
} from '../../src/budgets/budgets.sql.js';
import { lockBudgetsStatement } from '../../src/budgets/openWindows.sql.js';
import type { Statement } from '../../src/db/statement.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { USER_SCOPE } from '../../src/schema/unsettled.js';
import { lockWaits, openSessions, type Session, type Sessions } from '../support/sessions.js';
import { budgetStore, eventsOf, spend, thresholdsOf, topUp } from './alertHarness.js';
import { addPayer, expectIdentity, foldBudgets } from './budgetHarness.js';
import { addGrant, ago, expirerOf, setExpiry } from './grantHarness.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

/** Alerts and webhooks that are set while what they are on changes, or who they are of is deleted. */
let fixture: LedgerFixture;
let ledger: Ledger;
let sessions: Sessions;
let a: Session;
let b: Session;
let user: string;
let budgetId: string;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open({ allowPrivateWebhooks: true });
  sessions = await openSessions(fixture.database.url, 2);
  [a, b] = sessions.all as [Session, Session];
});
beforeEach(async () => {
  user = await addPayer(fixture, 10_000);
  budgetId = (await setDaily('UTC')).id;
});
afterAll(async () => {
  await sessions.close();
  await fixture.close();
});

const setDaily = (time_zone: string) =>
  setBudget(budgetStore(ledger), {
    scope: 'user',
    id: user,
    limit_usd: '0.0001',
    window: 'day',
    time_zone,
    mode: 'soft',
  });
const alert = () => setAlert(ledger.alertStore, { kind: 'budget', budget_id: budgetId });
const alerts = () => listAlerts(ledger.pool, { scope: 'user', id: user });
const run = (by: Session, { text, values }: Statement) => by.run(text, values as unknown[]);

/** As `setAlert` does, up to its commit. */
async function beginAlert(by: Session, kind: 'budget' | 'spend'): Promise<void> {
  await by.run('begin');
  await run(by, lockBudgetsStatement(USER_SCOPE, user));
  const wanted = { payerId: user, thresholds: [500], floorMicrodollars: 0, createdBy: null };
  const budget = kind === 'budget' ? budgetId : null;
  await run(by, setAlertStatement(USER_SCOPE, { ...wanted, kind, budgetId: budget }));
}

/** Returns once somebody waits for a lock. */
async function untilSomebodyWaits(): Promise<void> {
  while ((await lockWaits(fixture.database.pool)).length === 0);
}

describe('an alert that is set while its budget', () => {
  /** As `setBudget` does, up to its commit. */
  async function beginMove(by: Session, zone: string): Promise<void> {
    const key = ['user', 'user', user, null, null, null, 'day', zone, 'admin'];
    await by.run('begin');
    const retired = await by.run<{ id: string }>(RETIRE_OTHER_ZONE, key);
    const [row] = await by.run<SetRow>(SET_BUDGET, [...key, 100, false, null, null]);
    await by.run(MOVE_ALERTS, [retired.map(({ id }) => id), row?.id]);
  }

  it('goes to another zone is not set on the one that is gone', async () => {
    await beginMove(a, 'Asia/Tokyo');
    expect(await ledgerErrorOf(alert())).toMatchObject({ code: 'unavailable', retryable: true });
    await a.run('commit');
    expect(await ledgerErrorOf(alert())).toMatchObject({ code: 'not_found' });
    expect(await alerts()).toEqual([]);
  });

  it('goes to another zone after it goes along', async () => {
    await beginAlert(b, 'budget');
    const moving = setDaily('Asia/Tokyo');
    await untilSomebodyWaits();
    await b.run('commit');
    const { id } = await moving;
    expect(id).not.toBe(budgetId);
    expect(await alerts()).toMatchObject([{ budget_id: id }]);
    await spend(ledger, user, 500);
    expect(await thresholdsOf(fixture, user)).toEqual([500]);
    await expectIdentity(fixture);
  });

  it('is removed goes away with it', async () => {
    await beginAlert(b, 'budget');
    const removing = removeBudget(budgetStore(ledger), budgetId);
    await untilSomebodyWaits();
    await b.run('commit');
    await removing;
    expect(await alerts()).toEqual([]);
  });
});

describe('who is deleted', () => {
  const url = 'https://ada.example/hook';
  /** Keys in use, alerts, and webhooks that say anything. */
  const left = (rows: Session['run'] = fixture.rows) =>
    rows(
      `select (select count(*)::integer from api_keys
           where kilo_user_id = $1 and revoked_at is null) as keys,
         (select count(*)::integer from usage_alerts
           where payer_id = $1 and removed_at is null) as alerts,
         (select count(*)::integer from usage_alert_webhooks
           where payer_id = $1 and (url <> '' or secret <> '' or removed_at is null)) as webhooks`,
      [user],
    );
  const NOTHING = [{ keys: 0, alerts: 0, webhooks: 0 }];

  it('while the name of a webhook is looked up gets none, nor alerts or keys after', async () => {
    const lookup = async () => {
      await softDeleteUser(fixture.database.pool, user);
      return [{ address: '93.184.216.34', family: 4 }];
    };
    const store = { ...ledger.alertStore, lookup, allowsPrivate: false };
    const error = await ledgerErrorOf(addWebhook(store, { url, kilo_user_id: user }));
    expect(error.code).toBe('unknown_user');
    expect(await listWebhooks(ledger.pool, { scope: 'user', id: user })).toEqual([]);
    expect(await left()).toEqual(NOTHING);
  });

  it('is deleted with what was in flight beside', async () => {
    const { id } = await createApiKey(ledger.pool, { kilo_user_id: user, scopes: ['gateway'] });
    await beginAlert(a, 'spend');
    await a.run(ADD_WEBHOOK, ['user', user, url, 'whsec_x', null, 20]);
    await a.run(
      `insert into api_keys (key_hash, key_prefix, kilo_user_id, scopes)
       select repeat('b', 64), 'md_', kilo_user_id, scopes from api_keys where id = $1`,
      [id],
    );
    const deleting = softDeleteUser(fixture.database.pool, user);
    const marked = 'select from kilocode_users where id = $1 and deleted_at is not null';
    while ((await fixture.rows(marked, [user])).length === 0);
    expect(await left()).toEqual(NOTHING);
    // Seen by itself alone: right after its commit the deletion may have taken it away.
    expect(await left(a.run)).not.toEqual(NOTHING);
    await a.run('commit');
    expect(await deleting).toMatchObject({ isFinal: true });
    expect(await left()).toEqual(NOTHING);
  });

  it('while an alert is being set gets none', async () => {
    const store = { ...ledger.alertStore };
    const setting = setAlert(store, { kind: 'spend', kilo_user_id: user }, async () => {
      await softDeleteUser(fixture.database.pool, user);
    });
    expect((await ledgerErrorOf(setting)).code).toBe('unknown_user');
    expect(await left()).toEqual(NOTHING);
  });
});

describe('a low balance', () => {
  const below = (usd: string) =>
    setAlert(ledger.alertStore, { kind: 'balance', kilo_user_id: user, below_usd: usd });

  it('is told again after a top-up, though more than that was taken back before', async () => {
    await below('0.0002');
    await spend(ledger, user, 9_900);
    expect(await eventsOf(fixture, user)).toMatchObject([{ limit: 10_000, spent: 9_900 }]);
    await spend(ledger, user, -6_000);
    await addCredit(ledger.pool, { kilo_user_id: user, usd: '-0.006' });
    await foldBudgets(ledger, { user });
    await topUp(fixture, ledger, user, 1_000);
    // 1,100 are left: it led out of the first, and this leads into another.
    await spend(ledger, user, 1_000);
    expect(await eventsOf(fixture, user)).toMatchObject([{}, { limit: 5_000, spent: 4_900 }]);
    await expectIdentity(fixture);
  });

  it('by an expiry is told with it, once, whoever else looks', async () => {
    user = await fixture.addUser();
    await addCredit(ledger.pool, { kilo_user_id: user, usd: '0.0001' });
    const grant = await addGrant(ledger, { kilo_user_id: user }, 1_000);
    await below('0.0002');
    await setExpiry(fixture, [grant], ago(10_000));
    const look = () => expirerOf(ledger).expirePayer(USER_SCOPE, user);
    await Promise.all([look(), look(), foldBudgets(ledger, { user }).catch(() => {}), look()]);
    while ((await look()) === 'busy');
    expect(await eventsOf(fixture, user)).toMatchObject([
      { kind: 'balance', limit: 100, spent: 0 },
    ]);
    await expectIdentity(fixture);
  });
});
