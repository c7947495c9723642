import { Webhook } from 'standardwebhooks';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type LookupAll, systemLookup } from '../../src/alerts/address.js';
import { MAX_ATTEMPTS } from '../../src/alerts/backOff.js';
import { Deliverer, type DelivererOptions } from '../../src/alerts/deliverer.js';
import { listDeliveries, replayDelivery, replayWebhook } from '../../src/alerts/deliveries.js';
import { claimStatement } from '../../src/alerts/deliveries.sql.js';
import { purgeAlerts } from '../../src/alerts/purge.js';
import {
  addWebhook,
  enableWebhook,
  listWebhooks,
  type NewWebhook,
  removeWebhook,
  rotateWebhookSecret,
  testWebhook,
} from '../../src/alerts/webhooks.js';
import { queryOnPool } from '../../src/db/query.js';
import type { Ledger } from '../../src/ledgerTypes.js';
import { startWebhookReceiver, type WebhookReceiver } from '../support/webhookReceiver.js';
import { addAlerted, spend } from './alertHarness.js';
import { expectIdentity } from './budgetHarness.js';
import { createLedgerFixture, type LedgerFixture, ledgerErrorOf } from './ledgerHarness.js';

/** What was told arrives: at least once, signed, and whatever becomes of receivers and senders. */
let fixture: LedgerFixture;
let ledger: Ledger;
let receiver: WebhookReceiver;
let results: string[];

beforeAll(async () => {
  fixture = await createLedgerFixture();
  ledger = await fixture.open({ allowPrivateWebhooks: true });
});
beforeEach(async () => {
  receiver = await startWebhookReceiver();
  results = [];
  await fixture.rows('truncate usage_alert_deliveries, usage_alert_webhooks');
});
afterEach(() => receiver.close());
afterAll(() => fixture.close());

const newDeliverer = (options: Partial<DelivererOptions> = {}) =>
  new Deliverer({
    query: queryOnPool(fixture.database.pool, false),
    lookup: systemLookup,
    allowsPrivate: true,
    onResult: (result, count) => void results.push(`${result} ${count}`),
    onError: (error) => {
      throw error;
    },
    ...options,
  });

const hook = (user: string | null, url = receiver.url): Promise<NewWebhook> =>
  addWebhook(ledger.alertStore, { url, kilo_user_id: user });

/** A user who has been told of three thresholds, for one webhook. */
async function told(percents = [50, 80, 100]) {
  const { user } = await addAlerted(fixture, ledger, { thresholds_percent: percents });
  const webhook = await hook(user);
  await spend(ledger, user, 100);
  return { user, webhook };
}

const deliveriesOf = (user: string, state?: string) =>
  listDeliveries(ledger.pool, { payer: { scope: 'user', id: user }, state, withShared: true });

/** The next try is now. */
const skipPause = () =>
  fixture.rows('update usage_alert_deliveries set next_attempt_at = now(), leased_until = null');

describe('a delivery', () => {
  it('is signed, says what was crossed, and is done with a 2xx', async () => {
    const { user, webhook } = await told();
    receiver.answerWith(204);
    await newDeliverer().drain();
    expect(results).toEqual(['delivered 1', 'delivered 1', 'delivered 1']);
    const events = receiver.received.map(({ body, headers }) => {
      expect(headers['content-type']).toBe('application/json');
      return new Webhook(webhook.secret).verify(body, headers);
    });
    expect(events).toHaveLength(3);
    expect(events).toContainEqual({
      type: 'budget.threshold_reached',
      timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
      data: {
        alert_id: expect.any(String),
        kilo_user_id: user,
        organization_id: null,
        budget_id: expect.any(String),
        scope: 'user',
        window: 'day',
        member_id: null,
        api_key_id: null,
        project_id: null,
        window_start: expect.stringMatching(/T00:00:00\.000000Z$/),
        window_end: expect.stringMatching(/T00:00:00\.000000Z$/),
        threshold_percent: 80,
        limit_microdollars: 100,
        spent_microdollars: 100,
      },
    });
    expect(await deliveriesOf(user)).toMatchObject(
      [1, 2, 3].map(() => ({
        state: 'delivered',
        attempts: 1,
        last_status: 204,
        last_error: null,
      })),
    );
    await newDeliverer().drain();
    expect(receiver.received).toHaveLength(3);
    await expectIdentity(fixture);
  });

  it('goes to each webhook of the payer, and of everybody; none of others', async () => {
    const { user } = await addAlerted(fixture, ledger, { thresholds_percent: [50] });
    const stranger = await fixture.addUser();
    await Promise.all([
      hook(user, `${receiver.url}/a`),
      hook(user, `${receiver.url}/b`),
      hook(null, `${receiver.url}/all`),
      hook(stranger, `${receiver.url}/stranger`),
    ]);
    await spend(ledger, user, 60);
    await newDeliverer().drain();
    expect(receiver.received.map(({ path }) => path).sort()).toEqual([
      '/hook/a',
      '/hook/all',
      '/hook/b',
    ]);
    const payer = { scope: 'user', id: user } as const;
    expect(await listDeliveries(ledger.pool, { payer, withShared: false })).toHaveLength(2);
    expect(await listDeliveries(ledger.pool, { payer, withShared: true })).toHaveLength(3);
  });

  it('is tried again after a failure, later each time, with the same id and a new time', async () => {
    const { user, webhook } = await told([50]);
    receiver.answerWith(500, 302, 429, 200);
    const deliverer = newDeliverer();
    await deliverer.drain();
    expect(await deliveriesOf(user)).toMatchObject([
      { state: 'pending', attempts: 1, last_status: 500 },
    ]);
    expect(await listWebhooks(ledger.pool, { scope: 'user', id: user })).toMatchObject([
      { failing_since: expect.any(String) },
    ]);
    const pauses = [];
    for (let n = 0; n < 3; n++) {
      const [row] = await fixture.rows<{ pause: number }>(
        `select extract(epoch from next_attempt_at - last_attempt_at)::float as pause
         from usage_alert_deliveries`,
      );
      pauses.push(row?.pause ?? 0);
      await deliverer.drain();
      await skipPause();
      await deliverer.drain();
    }
    expect(receiver.received).toHaveLength(4);
    expect(results).toEqual(['failed 1', 'failed 1', 'failed 1', 'delivered 1']);
    expect(pauses[0]).toBeGreaterThanOrEqual(4);
    expect(pauses[1]).toBeGreaterThanOrEqual(16);
    expect(pauses[2]).toBeGreaterThanOrEqual(64);
    const ids = receiver.received.map(({ headers }) => headers['webhook-id']);
    expect(new Set(ids).size).toBe(1);
    expect(new Set(receiver.received.map(({ body }) => body)).size).toBe(1);
    expect(await listWebhooks(ledger.pool, { scope: 'user', id: user })).toMatchObject([
      { id: webhook.id, failing_since: null },
    ]);
  });

  it('waits as long as its receiver asks, and never less than the pause', async () => {
    await told([50]);
    receiver.answerWith(
      (response) => void response.writeHead(429, { 'retry-after': '600' }).end(),
      (response) => void response.writeHead(503, { 'retry-after': '1' }).end(),
    );
    const deliverer = newDeliverer();
    const pauses = [];
    for (let n = 0; n < 2; n++) {
      await deliverer.drain();
      const [row] = await fixture.rows<{ pause: number }>(
        `select extract(epoch from next_attempt_at - last_attempt_at)::float as pause
         from usage_alert_deliveries`,
      );
      pauses.push(row?.pause ?? 0);
      await skipPause();
    }
    expect(pauses[0]).toBeGreaterThanOrEqual(600);
    expect(pauses[1]).toBeGreaterThanOrEqual(16);
  });

  it('is a dead letter after its last try, listed, and replayed from the beginning', async () => {
    const { user, webhook } = await told([50]);
    receiver.answerWith(503);
    const deliverer = newDeliverer();
    for (let n = 0; n < MAX_ATTEMPTS; n++) {
      await deliverer.drain();
      await skipPause();
    }
    await deliverer.drain();
    expect(receiver.received).toHaveLength(MAX_ATTEMPTS);
    expect(results.at(-1)).toBe('dead 1');
    const [dead] = await deliveriesOf(user, 'dead');
    expect(dead).toMatchObject({ attempts: MAX_ATTEMPTS, last_status: 503, next_attempt_at: null });
    expect(await deliverer.look()).toMatchObject({ pending: '0', dead: '1' });
    receiver.answerWith(200);
    expect(await replayDelivery(ledger.pool, dead?.id ?? '')).toEqual({ replayed: 1 });
    expect(await replayDelivery(ledger.pool, dead?.id ?? '')).toEqual({ replayed: 0 });
    await deliverer.drain();
    expect(await deliveriesOf(user)).toMatchObject([{ state: 'delivered', attempts: 1 }]);
    expect(await replayWebhook(ledger.pool, webhook.id)).toEqual({ replayed: 0 });
    await expectIdentity(fixture);
  });

  it('to one that answers 410 disables it: what waits is dead, and replayed once it is enabled', async () => {
    const { user, webhook } = await told();
    receiver.answerWith(410);
    // One at a time, as if the others came later.
    await fixture.rows(
      `update usage_alert_deliveries set next_attempt_at = now() + interval '1 hour'
       where id <> (select min(id::text)::uuid from usage_alert_deliveries)`,
    );
    const deliverer = newDeliverer();
    await deliverer.drain();
    await deliverer.look();
    expect(await deliveriesOf(user, 'dead')).toHaveLength(3);
    expect(await listWebhooks(ledger.pool, { scope: 'user', id: user })).toMatchObject([
      { disabled_at: expect.any(String), disabled_reason: 'it answered 410 Gone' },
    ]);
    await spend(ledger, user, 5_000);
    expect(await deliveriesOf(user)).toHaveLength(3);
    const [dead] = await deliveriesOf(user, 'dead');
    expect((await ledgerErrorOf(replayDelivery(ledger.pool, dead?.id ?? ''))).message).toMatch(
      /enable it first/,
    );
    await enableWebhook(ledger.pool, webhook.id);
    expect(await replayWebhook(ledger.pool, webhook.id)).toEqual({ replayed: 3 });
    receiver.answerWith(200);
    await deliverer.drain();
    expect(await deliveriesOf(user, 'delivered')).toHaveLength(3);
  });

  it('to one that was removed is not sent', async () => {
    const { user, webhook } = await told();
    await removeWebhook(ledger.pool, webhook.id);
    const deliverer = newDeliverer();
    await deliverer.drain();
    await deliverer.look();
    expect(receiver.received).toEqual([]);
    expect(await deliveriesOf(user, 'dead')).toMatchObject(
      [1, 2, 3].map(() => ({ last_error: 'the webhook was removed' })),
    );
    expect((await ledgerErrorOf(removeWebhook(ledger.pool, webhook.id))).code).toBe('not_found');
    const kept = await fixture.rows('select secret from usage_alert_webhooks');
    expect(kept).toEqual([{ secret: '' }]);
  });
});

describe('a receiver', () => {
  it('that redirects is not followed', async () => {
    const { user } = await told([50]);
    receiver.answerWith((response) => {
      response.writeHead(307, { location: `${receiver.url}/elsewhere` }).end();
    });
    await newDeliverer().drain();
    expect(receiver.received.map(({ path }) => path)).toEqual(['/hook']);
    expect(await deliveriesOf(user)).toMatchObject([{ state: 'pending', last_status: 307 }]);
  });

  it('that never ends its answer is read to 64 kB, and has answered', async () => {
    const { user } = await told([50]);
    let written = 0;
    receiver.answerWith((response) => {
      response.writeHead(200);
      const more = () => {
        if (response.destroyed) return;
        written += 16_384;
        response.write(Buffer.alloc(16_384), () => setImmediate(more));
      };
      more();
    });
    await newDeliverer().drain();
    expect(await deliveriesOf(user)).toMatchObject([{ state: 'delivered' }]);
    // What a socket holds between two processes of one machine comes on top.
    expect(written).toBeLessThan(32 * 1024 * 1024);
  });

  it('that does not answer in time has failed; one that is not there, too', async () => {
    const { user } = await told([50]);
    receiver.answerWith(() => {});
    await newDeliverer({ timeoutMs: 200 }).drain();
    expect(await deliveriesOf(user)).toMatchObject([
      { state: 'pending', last_status: null, last_error: 'no answer within 0.2 s' },
    ]);
    await receiver.close();
    await skipPause();
    await newDeliverer().drain();
    expect(await deliveriesOf(user)).toMatchObject([{ last_error: 'ECONNREFUSED' }]);
    receiver = await startWebhookReceiver();
  });

  it('that hangs gets one request at a time, and starves nobody', async () => {
    const hanging: (() => void)[] = [];
    const dead = await startWebhookReceiver();
    dead.answerWith((response) => void hanging.push(() => response.writeHead(500).end()));
    const users = await Promise.all(
      Array.from({ length: 5 }, () => addAlerted(fixture, ledger, { thresholds_percent: [50] })),
    );
    for (const { user } of users) {
      for (const path of ['a', 'b', 'c', 'd']) await hook(user, `${dead.url}/${path}`);
      await spend(ledger, user, 60);
    }
    const { user } = await told();
    await fixture.rows(`update usage_alert_webhooks set failing_since = now() where url like $1`, [
      `${dead.url}%`,
    ]);
    const deliverer = newDeliverer();
    // All but 20 hang; claims go on beside them.
    for (let n = 0; n < 3; n++) await deliverer.begin();
    await expect.poll(() => receiver.received.length).toBe(3);
    await expect.poll(() => hanging.length).toBe(8);
    expect(await deliverer.begin()).toBe(0);
    await expect.poll(() => deliveriesOf(user, 'delivered')).toHaveLength(3);
    for (const end of hanging) end();
    await deliverer.settled();
    await dead.close();
  });
});

describe('several processes', () => {
  it('deliver each once', async () => {
    const users = await Promise.all(Array.from({ length: 6 }, () => told()));
    const deliverers = Array.from({ length: 4 }, () => newDeliverer());
    await Promise.all(deliverers.map((each) => each.drain()));
    await Promise.all(deliverers.map((each) => each.drain()));
    const ids = receiver.received.map(({ headers }) => headers['webhook-id']);
    expect(ids).toHaveLength(users.length * 3);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('take over from one that died between its claim and the answer, after the lease', async () => {
    const { user } = await told([50]);
    const query = queryOnPool(fixture.database.pool, false);
    const limits = { free: 16, freeForFailing: 8, perWebhook: 4 };
    // It claimed, and was killed: whether it had sent, nobody knows.
    expect(await query(claimStatement(limits))).toHaveLength(1);
    const deliverer = newDeliverer();
    await deliverer.drain();
    expect(receiver.received).toEqual([]);
    await fixture.rows(`update usage_alert_deliveries set leased_until = now()`);
    await deliverer.drain();
    expect(receiver.received).toHaveLength(1);
    expect(await deliveriesOf(user)).toMatchObject([{ state: 'delivered', attempts: 2 }]);
  });

  it('give up where each of them died of its try, and one that is replayed begins anew', async () => {
    const { user } = await told([50]);
    const query = queryOnPool(fixture.database.pool, false);
    const limits = { free: 1, freeForFailing: 1, perWebhook: 1 };
    for (let tries = 0; tries < MAX_ATTEMPTS; tries++) {
      expect(await query(claimStatement(limits))).toHaveLength(1);
      await skipPause();
    }
    expect(await query(claimStatement(limits))).toEqual([]);
    const deliverer = newDeliverer();
    await deliverer.look();
    const [letter] = await deliveriesOf(user, 'dead');
    expect(letter).toMatchObject({
      attempts: MAX_ATTEMPTS,
      last_error: 'the process of the last try ended before it could tell',
    });
    expect(await replayDelivery(ledger.pool, letter?.id ?? '')).toEqual({ replayed: 1 });
    await deliverer.drain();
    expect(await deliveriesOf(user, 'delivered')).toHaveLength(1);
  });

  it('have no transaction open while a request is', async () => {
    await told([50]);
    let release = () => {};
    receiver.answerWith((response) => {
      release = () => response.writeHead(200).end();
    });
    const deliverer = newDeliverer();
    await deliverer.begin();
    await expect.poll(() => receiver.received.length).toBe(1);
    const open = await fixture.rows(
      `select from pg_stat_activity where datname = current_database()
       and xact_start is not null and pid <> pg_backend_pid()
       -- The ledger's own background work is none of the deliverer's.
       and application_name not like 'microdollar %'`,
    );
    expect(open).toEqual([]);
    release();
    await deliverer.settled();
  });

  it('one that stops gives back what has no answer', async () => {
    const { user } = await told([50]);
    receiver.answerWith(() => {}, 200);
    const stopping = newDeliverer({ stopMs: 0 });
    await stopping.begin();
    await expect.poll(() => receiver.received.length).toBe(1);
    await stopping.stop();
    expect(await deliveriesOf(user)).toMatchObject([{ state: 'pending', attempts: 0 }]);
    expect(await stopping.begin()).toBe(0);
    await newDeliverer().drain();
    expect(await deliveriesOf(user)).toMatchObject([{ state: 'delivered' }]);
  });

  it('a ledger that is to deliver does so by itself', async () => {
    const delivering = await fixture.open({ deliverAlerts: true, allowPrivateWebhooks: true });
    const { user } = await told([50]);
    await expect.poll(() => receiver.received.length, { timeout: 10_000 }).toBe(1);
    await expect.poll(() => deliveriesOf(user, 'delivered')).toHaveLength(1);
    await expect
      .poll(async () => (await delivering.metrics.alertDeliveries.get()).values)
      .toMatchObject([{ labels: { result: 'delivered' }, value: 1 }]);
    await delivering.close();
  });
});

describe('a secret', () => {
  it('is rotated: both sign until the old one ends', async () => {
    const { user, webhook } = await told([50]);
    const rotated = await rotateWebhookSecret(ledger.pool, webhook.id);
    expect(rotated.secret).not.toBe(webhook.secret);
    receiver.answerWith(500);
    const deliverer = newDeliverer();
    await deliverer.drain();
    await fixture.rows('update usage_alert_webhooks set previous_secret_until = now()');
    await skipPause();
    await deliverer.drain();
    const [during, after] = receiver.received;
    const verify = (secret: string, { body, headers } = during ?? { body: '', headers: {} }) =>
      new Webhook(secret).verify(body, headers);
    expect(verify(webhook.secret)).toEqual(verify(rotated.secret));
    expect(verify(rotated.secret, after)).toBeTruthy();
    expect(() => verify(webhook.secret, after)).toThrow();
    expect(await rotateWebhookSecret(ledger.pool, webhook.id, 0)).toMatchObject({
      previous_secret_until: null,
    });
    const shown = JSON.stringify([
      await listWebhooks(ledger.pool, { scope: 'user', id: user }),
      await deliveriesOf(user),
    ]);
    expect(shown).not.toContain('whsec_');
  });

  it.each([-1, 721, Number.NaN])('is not kept for %s hours', async (hours) => {
    const { webhook } = await told([50]);
    const error = await ledgerErrorOf(rotateWebhookSecret(ledger.pool, webhook.id, hours));
    expect(error.details.field).toBe('overlap_hours');
  });
});

describe('a test', () => {
  it('is one signed event of its own type, and tells how it went', async () => {
    const webhook = await hook(await fixture.addUser());
    expect(await testWebhook(ledger.alertStore, webhook.id)).toEqual({
      delivered: true,
      status: 200,
      error: null,
    });
    const { body, headers } = receiver.received[0] ?? { body: '', headers: {} };
    expect(new Webhook(webhook.secret).verify(body, headers)).toMatchObject({
      type: 'webhook.test',
      data: { webhook_id: webhook.id },
    });
    receiver.answerWith(404);
    expect(await testWebhook(ledger.alertStore, webhook.id)).toMatchObject({ delivered: false });
  });
});

describe('an address of the operator', () => {
  /** Public when it is set, and of this machine ever after. */
  function rebinding(): LookupAll {
    let asked = 0;
    return async () => [{ address: asked++ === 0 ? '93.184.216.34' : '127.0.0.1', family: 4 }];
  }

  it('is not reached through a name that leads elsewhere by the time of the request', async () => {
    const { user } = await addAlerted(fixture, ledger, { thresholds_percent: [50] });
    const lookup = rebinding();
    const store = { ...ledger.alertStore, allowsPrivate: false, lookup };
    const { port } = new URL(receiver.url);
    const url = `https://rebinding.example:${port}/hook`;
    const webhook = await addWebhook(store, { url, kilo_user_id: user });
    await spend(ledger, user, 60);
    await newDeliverer({ allowsPrivate: false, lookup }).drain();
    expect(await deliveriesOf(user)).toMatchObject([
      { state: 'pending', last_status: null, last_error: expect.stringMatching(/not public/) },
    ]);
    expect((await testWebhook(store, webhook.id)).error).toMatch(/not public/);
    expect(receiver.received).toEqual([]);
  });

  it('that was set while it was allowed is not reached once it is not', async () => {
    const { user } = await told([50]);
    await newDeliverer({ allowsPrivate: false }).drain();
    expect(receiver.received).toEqual([]);
    expect(await deliveriesOf(user)).toMatchObject([
      { last_error: expect.stringMatching(/public/) },
    ]);
  });

  it('is refused when it is set, and nothing is stored', async () => {
    const store = { ...ledger.alertStore, allowsPrivate: false };
    const user = await fixture.addUser();
    const url = 'https://169.254.169.254/latest/meta-data';
    const error = await ledgerErrorOf(addWebhook(store, { url, kilo_user_id: user }));
    expect(error.details.field).toBe('url');
    expect(await listWebhooks(ledger.pool, { scope: 'user', id: user })).toEqual([]);
  });

  it('a payer has at most twenty webhooks', async () => {
    const user = await fixture.addUser();
    for (let n = 0; n < 20; n++) await hook(user, `${receiver.url}/${n}`);
    expect((await ledgerErrorOf(hook(user))).message).toMatch(/at most 20/);
  });
});

describe('what was heard', () => {
  /** As if all that was told of a user had been told so many days ago. */
  async function age(user: string, days: number): Promise<void> {
    const shifted = (columns: readonly string[]) =>
      columns.map((name) => `${name} = ${name} - interval '${days} days'`).join(', ');
    const ofUser = `(select id from usage_alerts where payer_id = '${user}')`;
    const events = `(select id from usage_alert_events where alert_id in ${ofUser})`;
    await fixture.rows(
      `update usage_alert_deliveries set ${shifted(['delivered_at', 'dead_at', 'created_at'])}
       where event_id in ${events}`,
    );
    const window = shifted(['window_start', 'window_end']);
    await fixture.rows(
      `update usage_alert_events set ${window}, ${shifted(['created_at'])} where alert_id in ${ofUser}`,
    );
    await fixture.rows(
      `update usage_alerts set ${shifted(['set_at', 'created_at'])} where payer_id = '${user}'`,
    );
    await fixture.rows(
      `update microdollar_usage set ${shifted(['created_at'])} where kilo_user_id = '${user}'`,
    );
    await fixture.rows(
      `update budget_windows set ${window} where window_end < 'infinity' and budget_id in (
         select id from budgets where payer_id = '${user}')`,
    );
  }
  const purge = (keptDays: number) =>
    purgeAlerts({
      query: queryOnPool(fixture.database.pool, false),
      folder: ledger.budgetFolder,
      keptDays,
    });

  it('is forgotten after a time, and told to nobody again by usage that comes later still', async () => {
    const { user } = await told([50, 80]);
    const { user: other } = await told([50]);
    await newDeliverer().drain();
    expect(await purge(1)).toBe(0);
    await age(user, 100);
    const [{ at }] = (await fixture.rows<{ at: string }>(
      `select (w.window_start + interval '1 hour')::text as at
       from budget_windows w join budgets b on b.id = w.budget_id
       where b.payer_id = $1 and not b.is_balance`,
      [user],
    )) as [{ at: string }];
    expect(await purge(101)).toBe(0);
    expect(await purge(90)).toBe(2);
    expect(await deliveriesOf(user)).toEqual([]);
    expect(await deliveriesOf(other)).toHaveLength(1);
    await spend(ledger, user, 10, { created_at: new Date(at) });
    expect(await deliveriesOf(user)).toEqual([]);
    await spend(ledger, user, 60);
    expect((await deliveriesOf(user)).map(({ threshold }) => threshold)).toEqual([50]);
  });

  it('by others stays where it is a dead letter, or is still to be sent', async () => {
    const { user, webhook } = await told([50, 80]);
    await removeWebhook(ledger.pool, webhook.id);
    await newDeliverer().look();
    const { user: waiting } = await told([50]);
    for (const each of [user, waiting]) await age(each, 100);
    expect(await purge(90)).toBe(0);
    expect(await deliveriesOf(user, 'dead')).toHaveLength(2);
    expect(await deliveriesOf(waiting, 'pending')).toHaveLength(1);
  });
});
