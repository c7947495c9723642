import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ENDPOINTS, REFUSED } from '../../../src/gateway/proxy/endpoints.js';
import { Refusal } from '../../../src/gateway/proxy/refusal.js';
import { readTarget, toSearch } from '../../../src/gateway/proxy/target.js';
import { inForm } from '../../support/form.js';

function refusalOf(method: string, url: string): Refusal {
  try {
    readTarget(method, url);
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
  throw new Error(`${method} ${url} was taken`);
}

/** What a path of the table may look like when it leaves: literals, and encoded names. */
const ALLOWED = ENDPOINTS.map(({ path }) => {
  const name = '(?:[A-Za-z0-9~_.-]|%40|%3A|%2B|%2C|%3D)+';
  const source = path
    .split('/')
    .map((part) =>
      part === '{id}' ? name : part === '{model}' ? `${name}(?:/${name}){0,3}` : part,
    )
    .join('/');
  return new RegExp(`^${source}$`);
});

/** Every way to write a path that servers are known to read differently. */
const piece = fc.oneof(
  fc.constantFrom(
    ...['/', '//', '.', '..', '...', '\\', '%', '%2e', '%2E%2e', '%2f', '%5c', '%252e', '%00', ';'],
    ...['#', '?', '&', '@', ':', ' ', '%20', '..;', '%c0%ae', '%e2%81%84', '\u2024', '\uff0e', '~'],
    ...['v1', 'api', 'models', 'responses', 'messages', 'chat', 'completions', 'files', 'batches'],
    ...['cancel', 'compact', 'input_items', 'gpt-4.1', 'resp_1', 'http:', 'evil.example'],
  ),
  fc.string({ unit: 'binary', maxLength: 4 }),
);
const url = fc
  .tuple(
    fc.constantFrom(
      '',
      '/',
      '/v1/',
      '/v1/models/',
      '/api/v1/',
      '/v1/responses/',
      'http://evil/v1/',
    ),
    fc.array(piece, { maxLength: 8 }),
  )
  .map(([start, pieces]) => start + pieces.join(''));

describe('a request line', () => {
  it('becomes a path of the table, the same to every server, or is refused', () => {
    fc.assert(
      fc.property(fc.constantFrom('GET', 'POST', 'DELETE', 'HEAD', 'PUT'), url, (method, text) => {
        let path: string;
        try {
          path = readTarget(method, text).path;
        } catch (error) {
          expect(error).toBeInstanceOf(Refusal);
          expect((error as Refusal).status).toBeLessThan(500);
          return;
        }
        expect(ALLOWED.some((allowed) => allowed.test(path))).toBe(true);
        // A server that resolves dots, or decodes, sees the same path.
        expect(new URL(path, 'http://provider').pathname).toBe(path);
        expect(decodeURIComponent(path)).not.toMatch(/\/\.+(\/|$)|\/\/|\\|\/$/);
      }),
      { numRuns: inForm(2_000, 20_000) },
    );
  });

  it.each([
    ['GET', '/v1/models/../files'],
    ['GET', '/v1/models/%2e%2e/files'],
    ['GET', '/v1/models/..%2ffiles'],
    ['GET', '/v1/models/.%2e/responses/resp_1'],
    ['GET', '/v1/models/%252e%252e/files'],
    ['GET', '/v1/models//files'],
    ['GET', '//v1/models'],
    ['GET', '/v1//models'],
    ['GET', '/v1/models/a%2Fb'],
    ['GET', '/v1/models/a%5Cb'],
    ['GET', '/v1/models\\..\\files'],
    ['GET', '/v1/models/.'],
    ['GET', '/v1/models/a/b/c/d/e'],
    ['GET', '/v1/models/a%00b'],
    ['GET', '/v1/models/a%0d%0ab'],
    ['GET', '/v1/models/%zz'],
    ['POST', 'http://attacker.example/v1/chat/completions'],
    ['POST', 'https://api.openai.com/v1/chat/completions'],
    ['POST', 'attacker.example:443'],
    ['OPTIONS', '*'],
    ['POST', ''],
    ['GET', '/v1/responses/resp_1/../../files'],
    ['POST', '/v1/responses/resp_1/cancel/x'],
    ['DELETE', '/v1/models/gpt-4o'],
    ['PUT', '/v1/responses/resp_1'],
  ])('%s %s is refused', (method, text) => {
    expect(refusalOf(method, text).status).toBeGreaterThanOrEqual(400);
  });

  it.each([
    ['POST', '/v1/chat/completions', '/v1/chat/completions'],
    ['POST', '/v1/chat/completions/', '/v1/chat/completions'],
    ['POST', '/api/v1/chat/completions', '/v1/chat/completions'],
    ['POST', '/v1/messages?beta=true', '/v1/messages'],
    ['POST', '/v1/messages/count_tokens?beta=true', '/v1/messages/count_tokens'],
    ['GET', '/v1/models/', '/v1/models'],
    ['HEAD', '/v1/models', '/v1/models'],
    ['GET', '/v1/models/ft:gpt-4o:acme::7p', '/v1/models/ft%3Agpt-4o%3Aacme%3A%3A7p'],
    ['GET', '/v1/models/ft%3Agpt-4o%3Aacme', '/v1/models/ft%3Agpt-4o%3Aacme'],
    ['GET', '/v1/models/gpt-4%2e1', '/v1/models/gpt-4.1'],
    ['GET', '/v1/models/anthropic/claude-4.5:free', '/v1/models/anthropic/claude-4.5%3Afree'],
    ['GET', '/v1/models/@cf/meta/llama-3', '/v1/models/%40cf/meta/llama-3'],
    ['DELETE', '/v1/responses/resp_1', '/v1/responses/resp_1'],
    ['POST', '/v1/responses/compact', '/v1/responses/compact'],
    ['GET', '/v1/responses/resp_1/input_items?limit=1', '/v1/responses/resp_1/input_items'],
  ])('%s %s goes to %s', (method, text, path) => {
    expect(readTarget(method, text).path).toBe(path);
  });

  it('names what exists: the path that was meant, other methods, why it is refused', () => {
    expect(refusalOf('POST', '/v1/v1/messages').message).toContain('POST /v1/messages?');
    expect(refusalOf('POST', '/v1/nothing').message).toContain('POST /v1/nothing');
    expect(refusalOf('POST', '/v1/nothing').message).toContain('POST /v1/embeddings');
    const wrong = refusalOf('PUT', '/v1/responses/resp_1');
    expect([wrong.status, wrong.headers.allow]).toEqual([405, 'GET, DELETE']);
    for (const { path, name } of REFUSED) {
      if (path === '/v1/chat/completions') continue;
      expect(refusalOf('POST', path)).toMatchObject({ status: 404, reason: 'not_supported' });
      expect(refusalOf('GET', `${path}/abc`).message).toContain(name);
    }
    expect(refusalOf('GET', '/v1/chat/completions/chatcmpl-1').message).toContain('stored');
  });
});

describe('a query', () => {
  const search = (url: string) =>
    toSearch(readTarget('POST', `/v1/messages${url}`).query, 'md_k/1');

  it('is passed on, rebuilt, less a parameter that repeats the key', () => {
    expect(search('')).toBe('');
    expect(search('?beta=true')).toBe('?beta=true');
    expect(search('?key=md_k%2F1&beta=true')).toBe('?beta=true');
    expect(search('?key=md_k/1&bad=%zz&a=b c#d')).toBe('?bad=%25zz&a=b%20c%23d');
    expect(search('?include[]=usage')).toBe('?include%5B%5D=usage');
    expect(search('?a\r\nb=1')).toBe('?a%0D%0Ab=1');
  });
});
