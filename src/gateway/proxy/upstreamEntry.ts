import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { LedgerError } from '../../errors.js';
import { PROVIDERS, type Provider } from './apis.js';
import { isKeyOfHeader, NO_KEY_OF_HEADER } from './keyOfHeader.js';

/** What becomes of the provider's work when its client leaves. */
export type OnAbort = 'stop' | 'drain';

export interface UpstreamSettings {
  /** With or without `/v1`; a path prefix is kept. */
  url: string;
  /** Null: none is sent, for a provider of one's own that wants none. */
  key: string | null;
}

/** One provider, for one API. */
export interface UpstreamEntry extends UpstreamSettings {
  name: string;
  api: Provider;
  /** Patterns like `gpt-*`; null = every model. */
  models: readonly string[] | null;
  /** Default: asked, and a refusal remembered. */
  streamOptions?: boolean;
  /** Default: as the gateway is set, else as its API bills. */
  onAbort?: OnAbort;
  /** False: what it reports as cost is not believed. Default true. */
  reportedCost?: boolean;
  /** Header in which it says what a whole answer cost, USD. */
  costHeader?: string;
  /** Added to every request, in place of the client's. */
  headers?: Readonly<Record<string, string>>;
  /** The variables that it comes from; absent = the file. */
  settingsOf?: string;
}

const api = z.enum(PROVIDERS);
const headers = z.record(z.string().regex(/^[\w-]+$/), z.string().regex(/^[\t\x20-\x7e]*$/));

const FILE = z.strictObject({
  upstreams: z
    .array(
      z
        .strictObject({
          name: z.string().regex(/^[\w.-]{1,64}$/, 'must be a name of letters, digits, ., _ or -'),
          api: z.union([api, z.array(api).min(1)]),
          url: z.url({ protocol: /^https?$/ }),
          key: z.string().min(1).optional(),
          key_env: z.string().min(1).optional(),
          models: z.array(z.string().min(1)).min(1).optional(),
          stream_options: z.boolean().optional(),
          on_abort: z.enum(['stop', 'drain']).optional(),
          reported_cost: z.boolean().optional(),
          cost_header: z
            .string()
            .regex(/^[\w-]{1,128}$/, 'must be the name of a header, like x-litellm-response-cost')
            .optional(),
          headers: headers.optional(),
        })
        .refine((entry) => entry.cost_header === undefined || entry.reported_cost !== false, {
          path: ['cost_header'],
          message: 'names a cost that reported_cost: false says not to believe; give one of them',
        })
        .refine((entry) => entry.key === undefined || entry.key_env === undefined, {
          path: ['key'],
          message: 'has a key and a key_env; give one of them',
        }),
    )
    .min(1),
});

/**
 * Reads `MICRODOLLAR_UPSTREAMS_FILE` (docs/gateway.md has an example).
 * @throws LedgerError `invalid_request` naming the field, never a key
 */
export function readUpstreamsFile(path: string, env: NodeJS.ProcessEnv): UpstreamEntry[] {
  const parsed = FILE.safeParse(readJson(path));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw wrongFile(nameField(issue?.path ?? []), issue?.message ?? 'is wrong');
  }
  const { upstreams } = parsed.data;
  const entries = upstreams.flatMap(({ api, key, key_env, ...entry }, index) => {
    if (key_env !== undefined && !env[key_env]) {
      throw wrongFile(
        `upstreams[${index}].key_env`,
        `names the variable ${key_env}, which is not set`,
      );
    }
    const ownKey = key ?? (key_env === undefined ? null : (env[key_env] ?? null));
    if (ownKey !== null && !isKeyOfHeader(ownKey)) {
      const field = key_env === undefined ? 'key' : 'key_env';
      throw wrongFile(`upstreams[${index}].${field}`, NO_KEY_OF_HEADER);
    }
    const common = {
      name: entry.name,
      url: entry.url,
      key: ownKey,
      models: entry.models ?? null,
      ...(entry.stream_options === undefined ? {} : { streamOptions: entry.stream_options }),
      ...(entry.on_abort === undefined ? {} : { onAbort: entry.on_abort }),
      ...(entry.reported_cost === undefined ? {} : { reportedCost: entry.reported_cost }),
      ...(entry.cost_header === undefined ? {} : { costHeader: entry.cost_header }),
      ...(entry.headers === undefined ? {} : { headers: lowerCased(entry.headers) }),
    };
    return [...new Set([api].flat())].map((each) => ({ ...common, api: each }));
  });
  const names = entries.map((entry) => `${entry.api} ${entry.name}`);
  const twice = names.findIndex((name, index) => names.indexOf(name) !== index);
  if (twice >= 0) throw wrongFile('upstreams', `has ${entries[twice]?.name} twice for one API`);
  return entries;
}

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw wrongFile(null, `cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
  try {
    return JSON.parse(text);
  } catch {
    // The parser's message quotes the file, which may hold keys.
    throw wrongFile(null, 'is not valid JSON');
  }
}

function lowerCased(named: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(named).map(([name, value]) => [name.toLowerCase(), value]),
  );
}

function nameField(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
    .replace(/^\./, '');
}

function wrongFile(field: string | null, problem: string): LedgerError {
  const subject = field === null || field === '' ? 'the file' : field;
  return new LedgerError('invalid_request', `MICRODOLLAR_UPSTREAMS_FILE: ${subject} ${problem}`, {
    details: { field: field ?? 'MICRODOLLAR_UPSTREAMS_FILE' },
  });
}
