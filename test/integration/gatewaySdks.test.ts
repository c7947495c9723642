import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { scriptProvider } from '../support/scriptedProvider.js';
import type { Target } from './gatewayClients.js';
import { startTestGateway, type TestGateway, type TestUser } from './gatewayHarness.js';
import { SDKS, type Streamed } from './gatewaySdks.js';

let gateway: TestGateway;
let user: TestUser;

beforeAll(async () => {
  gateway = await startTestGateway();
  user = await gateway.newUser();
  scriptProvider(gateway.upstream);
});
afterAll(() => gateway?.stop());

const direct = (): Target => ({ url: gateway.upstream.url, key: 'direct' });
const through = (): Target => ({ url: gateway.url, key: user.key });
const posts = () => gateway.upstream.requests.filter(({ method }) => method === 'POST').length;

interface Row {
  id: string;
  cancelled: boolean;
  input_tokens: number;
  output_tokens: number;
  status_code: number;
}

/** Of this payer, newest first. */
const rows = () =>
  gateway.rows<Row>(
    `select u.id, m.cancelled, u.input_tokens::int4, u.output_tokens::int4, m.status_code
     from microdollar_usage as u
     join microdollar_usage_metadata as m on m.id = u.id
     order by u.created_at desc, u.id desc`,
  );

async function untilRows(count: number): Promise<Row[]> {
  for (;;) {
    const found = await rows();
    if (found.length >= count) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** The status that an error bears, wherever the client puts it. */
function statusOf(error: unknown): number | null {
  for (
    let at = error;
    at != null;
    at = (at as { cause?: unknown; lastError?: unknown }).lastError
  ) {
    const { status, statusCode } = at as { status?: unknown; statusCode?: unknown };
    if (typeof status === 'number') return status;
    if (typeof statusCode === 'number') return statusCode;
  }
  return null;
}

describe.each(Object.entries(SDKS))('%s', (name, send) => {
  it('streams text, the same as direct, and each request is one exact row', async () => {
    const before = (await rows()).length;
    const seen = await send(through(), { say: 'hello' });
    expect(seen).toEqual({ text: 'Good morning, world.', tools: [] } satisfies Streamed);
    expect(seen).toEqual(await send(direct(), { say: 'hello' }));
    const found = await untilRows(before + 1);
    expect(found).toHaveLength(before + 1);
    expect(found[0]).toMatchObject({ input_tokens: 9, output_tokens: 4, cancelled: false });
  });

  it('calls tools, the same as direct', async () => {
    const seen = await send(through(), { say: '[[tool]]' });
    expect(seen).toEqual({ text: '', tools: [{ name: 'lookup', input: { a: 1 } }] });
    expect(seen).toEqual(await send(direct(), { say: '[[tool]]' }));
  });

  it('is told of a wrong key at once, and asks no second time', async () => {
    const logged = () => gateway.logLines.filter((line) => line.includes('"status":401')).length;
    const [before, calls] = [logged(), posts()];
    const error = await send({ url: gateway.url, key: 'md_wrong' }, { say: 'hello' }).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    expect(statusOf(error)).toBe(401);
    expect(JSON.stringify([String(error), error])).toContain('wrong or was revoked');
    expect(logged() - before).toBe(1);
    expect(posts()).toBe(calls);
  });

  it('repeats what the provider refuses with 429, or not, as direct', async () => {
    const attempt = async (target: Target, say: string) => {
      const calls = posts();
      const outcome = await send(target, { say }).then(
        ({ text }) => text,
        (error: unknown) => statusOf(error),
      );
      return { outcome, calls: posts() - calls };
    };
    const seen = await attempt(through(), `[[busy ${name} through]]`);
    expect(seen).toEqual(await attempt(direct(), `[[busy ${name} direct]]`));
    expect(['Good morning, world.', 429]).toContain(seen.outcome);
  });

  it('stops a stream, and is billed', async () => {
    const before = (await rows()).length;
    const leaving = new AbortController();
    const stopped = send(through(), { say: `[[slow]] ${name}`, signal: leaving.signal }).catch(
      (error: unknown) => error,
    );
    while (!gateway.upstream.requests.some(({ body }) => body.includes(`[[slow]] ${name}`))) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    leaving.abort();
    expect(await stopped).toBeInstanceOf(Error);
    const isStopped = name.includes('anthropic');
    if (!isStopped) {
      // Read to its end, which comes when the provider is cut.
      gateway.upstream.cut();
    }
    const found = await untilRows(before + 1);
    expect(found[0]).toMatchObject({ cancelled: true });
    expect(found[0]?.output_tokens).toBeGreaterThan(0);
  });
});
