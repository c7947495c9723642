import { expect, it } from 'vitest';
import { ImportNotes } from '../../src/importing/importNotes.js';
import { createLitellmReader } from '../../src/importing/readLitellm.js';
import type { Line } from '../../src/importing/types.js';
import { NEITHER } from './gateway/hostileUsage.js';

async function* oneLine(text: string): AsyncGenerator<Line> {
  yield { line: 1, before: '', text };
}

// https://github.com/BerriAI/litellm/pull/33071
it.each<[string, object, number, number]>([
  ["OpenAI's", { prompt_tokens_details: { cached_tokens: 30, cache_write_tokens: 60 } }, 30, 60],
  [
    "LiteLLM's, beside zeros of its own",
    {
      cache_read_input_tokens: 0,
      cache_creation_input_tokens: 0,
      prompt_tokens_details: { cached_tokens: 30, cache_creation_tokens: 60 },
    },
    30,
    60,
  ],
  [
    "Anthropic's, beside zeros",
    {
      cache_read_input_tokens: 30,
      cache_creation_input_tokens: 60,
      prompt_tokens_details: { cached_tokens: 0, cache_creation_tokens: null },
    },
    30,
    60,
  ],
])('LiteLLM tells of the cache under names that are %s', async (_name, usage, hit, write) => {
  const row = {
    request_id: 'chatcmpl-1',
    call_type: 'acompletion',
    spend: 0.01,
    startTime: '2026-11-01T10:00:00Z',
    prompt_tokens: 100,
    completion_tokens: 10,
    total_tokens: 110,
    model: 'gpt-5.6-luna',
    user: 'ada',
    metadata: { usage_object: usage },
  };
  const read = createLitellmReader({}, new ImportNotes());
  const rows = [];
  for await (const each of read(oneLine(JSON.stringify(row)))) rows.push(each);
  expect(rows).toMatchObject([
    { event: { input_tokens: 100, cache_hit_tokens: hit, cache_write_tokens: write } },
  ]);
});

it.each(['spend', 'user', 'model', 'startTime', 'endTime', 'prompt_tokens', 'status', 'metadata'])(
  'a cell that is neither text nor number is none, or said to be wrong: %s',
  async (cell) => {
    const row = { spend: 0.01, startTime: '2026-11-01T10:00:00Z', prompt_tokens: 100, user: 'ada' };
    for (const value of [NEITHER, { error_information: { error_code: NEITHER } }]) {
      const read = createLitellmReader({}, new ImportNotes());
      const rows = [];
      const text = JSON.stringify({ ...row, request_id: 'chatcmpl-1', [cell]: value });
      for await (const each of read(oneLine(text))) rows.push(each);
      expect(rows).toHaveLength(1);
    }
  },
);
