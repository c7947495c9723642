import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

export const WIRE_APIS = ['openai-chat', 'openai-responses', 'anthropic-messages'] as const;
export type WireApi = (typeof WIRE_APIS)[number];

export const WIRE_PATHS = {
  'openai-chat': '/v1/chat/completions',
  'openai-responses': '/v1/responses',
  'anthropic-messages': '/v1/messages',
} as const satisfies Record<WireApi, string>;

/** An answer as a real provider sent it. */
export interface Recording {
  api: WireApi;
  /** The file's name without `.json` or `.chunks.txt`. */
  name: string;
  streamed: boolean;
  /** Streamed: one event's payload each. Else: the body alone. */
  payloads: string[];
}

/** MICRODOLLAR_TEST_DATA, else `../shared/data` beside the repository. */
export function testDataDir(): string {
  const repository = path.resolve(import.meta.dirname, '../..');
  return path.resolve(process.env.MICRODOLLAR_TEST_DATA || path.join(repository, '../shared/data'));
}

let recordings: Recording[] | null = null;

/** Every recording, in order of API and name. Fails with the remedy where they are not. */
export function listRecordings(): Recording[] {
  if (recordings !== null) return recordings;
  const dir = path.join(testDataDir(), 'wire');
  if (!existsSync(dir)) {
    throw new Error(`no recordings at ${dir}; set MICRODOLLAR_TEST_DATA to the test data`);
  }
  recordings = WIRE_APIS.flatMap((api) =>
    readdirSync(path.join(dir, api))
      .sort()
      .map((file) => readRecording(api, path.join(dir, api, file))),
  );
  return recordings;
}

export function findRecording(api: WireApi, name: string, streamed: boolean): Recording | null {
  const isIt = (each: Recording) =>
    each.api === api && each.name === name && each.streamed === streamed;
  return listRecordings().find(isIt) ?? null;
}

/** The bytes on the wire: as they are, or framed as server-sent events. */
export function frameRecording({ api, streamed, payloads }: Recording): Buffer {
  if (!streamed) return Buffer.from(payloads.join(''));
  const events = payloads.map((payload) => frameEvent(api, payload));
  if (api === 'openai-chat') events.push('data: [DONE]\n\n');
  return Buffer.from(events.join(''));
}

function frameEvent(api: WireApi, payload: string): string {
  if (api === 'openai-chat') return `data: ${payload}\n\n`;
  return `event: ${JSON.parse(payload).type}\ndata: ${payload}\n\n`;
}

function readRecording(api: WireApi, file: string): Recording {
  const base = path.basename(file);
  const text = readFileSync(file, 'utf8');
  if (!base.endsWith('.chunks.txt')) {
    return { api, name: base.replace(/\.json$/, ''), streamed: false, payloads: [text] };
  }
  const payloads = text.split('\n').filter((line) => line.trim() !== '');
  return { api, name: base.replace(/\.chunks\.txt$/, ''), streamed: true, payloads };
}
