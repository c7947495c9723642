import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { setAlert } from '../../src/alerts/alerts.js';
import { addWebhook } from '../../src/alerts/webhooks.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { ALERTS } from '../support/alertInvariants.sql.js';
import { checkInvariants } from '../support/checkInvariants.js';
import { addAlerted, spend } from './alertHarness.js';
import { expectIdentity } from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture } from './ledgerHarness.js';

/** The checks of I15 are seen to find each kind of damage, and nothing where there is none. */
let fixture: LedgerFixture;
let ledger: Ledger;

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open({ allowPrivateWebhooks: true });
  const { user } = await addAlerted(fixture, ledger);
  const url = 'http://127.0.0.1:1/hook';
  await addWebhook(ledger.alertStore, { url, kilo_user_id: user });
  const mine = { kilo_user_id: user };
  await setAlert(ledger.alertStore, { kind: 'balance', ...mine, below_usd: '0.00095' });
  await setAlert(ledger.alertStore, { kind: 'spend', ...mine, floor_usd: 0 });
  await spend(ledger, user, 85);
});

afterAll(() => fixture.close());

const OF = (kind: string) => `(select a.id from usage_alerts a where a.kind = '${kind}')`;

const DAMAGE: readonly { name: string; damage: string; found: RegExp[] }[] = [
  {
    name: 'a crossing of a budget that was not told',
    damage: `delete from usage_alert_events where threshold = 80`,
    found: [/^I15 alert .* past 80 percent, and told 0 times$/, /^I15 delivery /],
  },
  {
    name: 'a low balance that was not told',
    damage: `delete from usage_alert_events where alert_id = ${OF('balance')};
      truncate usage_alert_deliveries`,
    found: [/^I15 alert .* less than 950 is left, and told 0 times$/],
  },
  {
    name: 'an hour that was not told',
    damage: `delete from usage_alert_events where alert_id = ${OF('spend')};
      truncate usage_alert_deliveries`,
    found: [/^I15 alert .* 85 in the hour of .* told 0 times$/],
  },
  {
    name: 'a threshold that was told and not reached',
    damage: `insert into usage_alert_events (alert_id, budget_id, window_start, window_end, threshold,
        limit_microdollars, spent_microdollars)
      select e.alert_id, e.budget_id, e.window_start, e.window_end, 100, 100, 85
      from usage_alert_events e where e.threshold = 80`,
    found: [/^I15 event .* 85 of 100 is no crossing of 100$/],
  },
  {
    name: 'the same with figures that no usage bears out',
    damage: `insert into usage_alert_events (alert_id, budget_id, window_start, window_end, threshold,
        limit_microdollars, spent_microdollars)
      select e.alert_id, e.budget_id, e.window_start, e.window_end, 100, 100, 101
      from usage_alert_events e where e.threshold = 80`,
    found: [/^I15 event .* spent 101, but no more than 85 was ever charged$/],
  },
  {
    name: 'one that was told twice',
    damage: `alter table usage_alert_events drop constraint uq_usage_alert_events;
      insert into usage_alert_events (alert_id, budget_id, window_start, window_end, threshold,
        limit_microdollars, spent_microdollars)
      select e.alert_id, e.budget_id, e.window_start, e.window_end, e.threshold,
        e.limit_microdollars, e.spent_microdollars
      from usage_alert_events e where e.threshold = 80`,
    found: [/past 80 percent, and told 2 times$/, /told 2 times at 80$/],
  },
  {
    name: 'a delivery whose webhook is not there',
    damage: `delete from usage_alert_webhooks`,
    found: [/^I15 delivery /, /^I15 delivery /, /^I15 delivery /, /^I15 delivery /],
  },
];

describe('the check', () => {
  it('finds nothing where all is told', async () => {
    await expectIdentity(fixture);
    expect(await fixture.rows('select from usage_alert_events')).toHaveLength(4);
  });

  it.each(DAMAGE)('finds $name', async ({ damage, found }) => {
    const client = await fixture.database.pool.connect();
    try {
      await client.query('begin');
      await client.query(damage);
      const messages: string[] = [];
      for (const statement of ALERTS) {
        const { rows } = await client.query<{ message: string }>(statement);
        messages.push(...rows.map(({ message }) => message));
      }
      expect(messages).toEqual(found.map((each) => expect.stringMatching(each)));
    } finally {
      // Nobody else has seen it.
      await client.query('rollback');
      client.release();
    }
  });

  it('is part of what every concurrency test ends with', async () => {
    await fixture.rows('delete from usage_alert_events where threshold = 50');
    expect(await checkInvariants(fixture.database.pool)).toEqual([
      expect.stringMatching(/^I15 alert .* past 50 percent, and told 0 times$/),
      expect.stringMatching(/^I15 delivery /),
    ]);
  });
});
