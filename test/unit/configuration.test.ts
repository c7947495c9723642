import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { readEnvironment } from '../../src/cli/environment.js';

const CONFIGURATION = path.join(import.meta.dirname, '../../docs/configuration.md');

it('the table of environment variables has each that is read, and no other', async () => {
  const read = new Set<string>();
  // Which protocol it speaks is asked where something is exported.
  for (const set of [{}, { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:4318' }]) {
    const env = new Proxy<NodeJS.ProcessEnv>(set, {
      get: (values, name) => {
        read.add(String(name));
        return values[String(name)];
      },
    });
    readEnvironment(env);
  }
  const text = await readFile(CONFIGURATION, 'utf8');
  const named = [...text.matchAll(/^\| `([A-Z][A-Z0-9_]*)` \|/gm)].map(([, name]) => name ?? '');
  expect(named.sort()).toEqual([...read].sort());
  expect(new Set(named).size).toBe(named.length);
});

it.each([
  ['MICRODOLLAR_ADMIN_KEY', '0123456789abcdef\n'],
  ['MICRODOLLAR_OPENAI_KEY', 'sk-one\r\n'],
  ['MICRODOLLAR_ANTHROPIC_KEY', ' sk-ant-two'],
  ['MICRODOLLAR_ADMIN_KEY', 'the key of all the keys'],
  ['MICRODOLLAR_ADMIN_KEY', 'clé-de-toutes-les-clés'],
])('%s is refused where no header carries it, and not quoted', (name, value) => {
  const refusal = expect.objectContaining({ code: 'invalid_request', details: { field: name } });
  expect(() => readEnvironment({ [name]: value })).toThrow(refusal);
  expect(() => readEnvironment({ [name]: value })).not.toThrow(value.trim());
});
