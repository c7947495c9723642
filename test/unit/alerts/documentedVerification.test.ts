import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { transform } from 'esbuild';
import { beforeAll, describe, expect, it } from 'vitest';
import { newWebhookSecret, webhookHeaders } from '../../../src/alerts/signature.js';

const DOCUMENT = path.join(import.meta.dirname, '../../../docs/alerts.md');

type Verify = (
  secret: string,
  headers: Record<string, string | undefined>,
  body: string,
  nowMs?: number,
) => unknown;
let verify: Verify;

/** The example itself, as somebody copies it. */
beforeAll(async () => {
  const example = /```ts\n([\s\S]*?)```/.exec(await readFile(DOCUMENT, 'utf8'))?.[1];
  if (!example) throw new Error('docs/alerts.md has no example in TypeScript');
  const { code } = await transform(example, { loader: 'ts', format: 'esm' });
  const module = await import(`data:text/javascript,${encodeURIComponent(code)}`);
  verify = module.verifyWebhook;
});

describe('the documented verification', () => {
  const secret = newWebhookSecret();
  const body = '{"type":"balance.low","timestamp":"2026-11-22T10:00:00Z","data":{}}';
  const nowMs = Date.parse('2026-11-22T10:00:00Z');

  it('takes what is sent, during a rotation too', () => {
    const event = JSON.parse(body);
    expect(verify(secret, webhookHeaders('a', nowMs, body, [secret]), body, nowMs)).toEqual(event);
    const both = webhookHeaders('a', nowMs, body, [newWebhookSecret(), secret]);
    expect(verify(secret, both, body, nowMs + 299_000)).toEqual(event);
  });

  it('refuses another body, id, secret or time, and what is not signed', () => {
    const headers = webhookHeaders('a', nowMs, body, [secret]);
    expect(() => verify(secret, headers, `${body} `, nowMs)).toThrow(/not signed/);
    expect(() => verify(secret, { ...headers, 'webhook-id': 'b' }, body, nowMs)).toThrow();
    expect(() => verify(newWebhookSecret(), headers, body, nowMs)).toThrow(/not signed/);
    expect(() => verify(secret, headers, body, nowMs + 301_000)).toThrow(/too old/);
    expect(() => verify(secret, {}, body, nowMs)).toThrow();
    expect(() => verify(secret, { ...headers, 'webhook-signature': 'v1,' }, body, nowMs)).toThrow();
  });
});
