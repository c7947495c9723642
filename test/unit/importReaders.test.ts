import { describe, expect, it } from 'vitest';
import { csvFormat, type ExportFormat, jsonlFormat } from '../../src/cli/exportFormats.js';
import { USAGE_SHAPE } from '../../src/cli/exportRows.sql.js';
import { assignPayer, azureOrganizationId } from '../../src/importing/azureAccounts.js';
import { readCsvRecords } from '../../src/importing/csvRecords.js';
import { readObject, readTags } from '../../src/importing/foreignCells.js';
import { ImportNotes } from '../../src/importing/importNotes.js';
import { findListPrice } from '../../src/importing/listPrice.js';
import { Occurrences } from '../../src/importing/occurrences.js';
import { createAzureReader } from '../../src/importing/readAzureLlm.js';
import { readCsv } from '../../src/importing/readCsv.js';
import { readJsonl } from '../../src/importing/readJsonl.js';
import { readLines } from '../../src/importing/readLines.js';
import { hashOccurrence, idOfKey, RowIds, sha256 } from '../../src/importing/rowIds.js';
import { dayOfEvent, shiftEvent } from '../../src/importing/shiftDays.js';
import type { EventReader } from '../../src/importing/types.js';
import type { UsageEvent } from '../../src/record/types.js';

/** Bytes in chunks of `size`, so that lines and characters are cut anywhere. */
async function* chunksOf(content: string | Buffer, size = 3): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(content);
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const linesOf = (content: string | Buffer, size = 3, maxBytes?: number) =>
  readLines(chunksOf(content, size), { nulBytesRemoved: 0 }, maxBytes);

describe('lines', () => {
  it.each([1, 2, 3, 7, 1000])('are the same in chunks of %i bytes', async (size) => {
    const text = '\uFEFFeins\r\n\rzwei ü 🙂\n   \nthree';
    expect(await collect(linesOf(text, size))).toEqual([
      { line: 1, before: '\uFEFF', text: 'eins' },
      { line: 3, before: '\r\n\r', text: 'zwei ü 🙂' },
      { line: 5, before: '\n   \n', text: 'three' },
    ]);
  });

  it.each(['\n', '\r\n', '\r'])('may end with %j', async (end) => {
    const texts = ['one', '', 'three', ''].join(end);
    expect(await collect(linesOf(texts, 4))).toEqual([
      { line: 1, before: '', text: 'one' },
      { line: 3, before: end + end, text: 'three' },
    ]);
  });

  it('of an empty file are none', async () => {
    expect(await collect(linesOf(''))).toEqual([]);
  });

  it('lose NUL bytes, which are counted', async () => {
    const cleaning = { nulBytesRemoved: 0 };
    const lines = await collect(readLines(chunksOf('a\0b\n\0\0\nc'), cleaning));
    expect(lines).toEqual([
      { line: 1, before: '', text: 'ab' },
      { line: 3, before: '\n\n', text: 'c' },
    ]);
    expect(cleaning.nulBytesRemoved).toBe(3);
  });

  it('that are too long are a problem of that line alone', async () => {
    const lines = await collect(linesOf(`ok\n${'x'.repeat(50)}\nok`, 8, 20));
    expect(lines).toEqual([
      { line: 1, before: '', text: 'ok' },
      { line: 2, problem: 'is longer than 20 bytes' },
      { line: 3, before: '\n', text: 'ok' },
    ]);
  });

  it('that are not UTF-8 are a problem of that line alone', async () => {
    const lines = await collect(linesOf(Buffer.from([0x61, 0x0a, 0xff, 0xe4, 0x0a, 0x62])));
    expect(lines).toEqual([
      { line: 1, before: '', text: 'a' },
      { line: 2, problem: 'is not UTF-8 text' },
      { line: 3, before: '\n', text: 'b' },
    ]);
  });
});

describe('a row that was exported', () => {
  const texts = [
    'a\rb\r\nc\nd',
    'a\n \t \n\r\n\n b',
    'a\n\uFEFFb\r',
    '',
    "'",
    "''",
    "'=1",
    '\n',
    ' a ',
    '"',
    ',',
  ];
  const rows = texts.map((text) => ({
    kilo_user_id: 'ada',
    cost: '1',
    model: text,
    provider: null,
  }));
  const imported = texts.map((text, index) => [index, text]);
  const read = async (format: ExportFormat, reader: EventReader) => {
    const file = format.head() + rows.map((row, index) => format.row(row, index)).join('');
    const events = await collect(reader(linesOf(file)));
    return events.map((each, index) =>
      'event' in each && each.event.provider == null ? [index, each.event.model] : each,
    );
  };

  it.each([
    ['CSV', csvFormat(USAGE_SHAPE), readCsv],
    ['JSONL', jsonlFormat(USAGE_SHAPE), readJsonl],
  ] as const)('is the same from %s', async (_name, format, reader) => {
    expect(await read(format, reader)).toEqual(imported);
  });

  it('has the session and user of its metadata, whose limits are wider', async () => {
    const long = 's'.repeat(1_024);
    const own = { kilo_user_id: 'ada', cost: 1 };
    const of = async (event: object) => {
      const [line] = await collect(readJsonl(linesOf(JSON.stringify({ ...own, ...event }), 1000)));
      return line && 'event' in line && line.event;
    };
    expect(await of({ session_id: long, end_user: '' })).toEqual({
      ...own,
      metadata: { session_id: long, end_user: '' },
    });
    // What the event itself may hold, and what is said twice, is the ledger's to judge.
    for (const event of [{ session_id: 's' }, { session_id: '', metadata: { session_id: 's' } }]) {
      expect(await of(event)).toEqual({ ...own, ...event });
    }
    const format = csvFormat(USAGE_SHAPE);
    const row = { kilo_user_id: 'ada', cost: '1', session_id: long, end_user: '' };
    const [line] = await collect(readCsv(linesOf(format.head() + format.row(row, 0), 1000)));
    expect(line).toMatchObject({ event: { metadata: { session_id: long, end_user: '' } } });
  });
});

describe('CSV records', () => {
  const records = (text: string) => collect(readCsvRecords(linesOf(text, 100)));

  it('hold quoted commas, quotes and line ends', async () => {
    expect(await records('a,"b,""c""",d\r\n"x\n\ny",z\nlast,1')).toEqual([
      { line: 1, cells: ['a', 'b,"c"', 'd'] },
      { line: 2, cells: ['x\n\ny', 'z'] },
      { line: 5, cells: ['last', '1'] },
    ]);
  });

  it.each([';', '\t'])('may have %j between cells', async (delimiter) => {
    const text = `"a,b"${delimiter}c${delimiter}d\n1${delimiter}"2${delimiter},"${delimiter}3,4`;
    expect((await records(text)).map((each) => 'cells' in each && each.cells)).toEqual([
      ['a,b', 'c', 'd'],
      ['1', `2${delimiter},`, '3,4'],
    ]);
  });

  it('lose only the line of a quote that is never closed', async () => {
    expect(await records('a,b\n"open,1\nc,d\ne,f')).toEqual([
      { line: 1, cells: ['a', 'b'] },
      { line: 2, problem: 'has a quote that is never closed' },
      { line: 3, cells: ['c', 'd'] },
      { line: 4, cells: ['e', 'f'] },
    ]);
  });

  it('lose only the lines of stray quotes', async () => {
    const found = await records('5" disk,1\nc,d\n3" disk,2\ne,f');
    expect(found.map((record) => 'cells' in record)).toEqual([false, true, false, true]);
    expect(found.map((record) => record.line)).toEqual([1, 2, 3, 4]);
  });
});

describe('CSV events', () => {
  const events = (text: string) => collect(readCsv(linesOf(text, 100)));

  it.each([
    ['TIMESTAMP,ContextTokens,GeneratedTokens', 'an Azure trace: say --format azure-llm'],
    ['request_id,call_type,spend,startTime', 'LiteLLM_SpendLogs: say --format litellm'],
    ['generation_id,created_at,cost_total', "OpenRouter's activity: say --format openrouter"],
    ['date,model,usage,byok_usage_inference', "OpenRouter's activity: say --format openrouter"],
  ])('name the format of an export of others: %s', async (header, said) => {
    const problem = `is the header of ${said}`;
    expect(await events(header)).toEqual([{ line: 1, problem, fatal: true }]);
  });

  it('take their types from the columns', async () => {
    const header = 'kilo_user_id,cost,has_error,input_tokens,metadata.latency,metadata.feature';
    expect(await events(`${header}\n123,-5,true,7,1.5,chat\nada,1.5,maybe,,,`)).toEqual([
      {
        line: 2,
        event: {
          kilo_user_id: '123',
          cost: -5,
          has_error: true,
          input_tokens: 7,
          metadata: { latency: 1.5, feature: 'chat' },
        },
      },
      // Left as text: the ledger names the field and what it must be.
      { line: 3, event: { kilo_user_id: 'ada', cost: '1.5', has_error: 'maybe' } },
    ]);
  });

  it.each([
    ['kilo_user_id,cost,colour\n', /"colour".*not a column/],
    ['kilo_user_id,cost,metadata.colour\n', /"metadata.colour"/],
    ['kilo_user_id,cost,cost\n', /"cost" twice/],
    ['kilo_user_id\n', /lacks cost/],
    ['{"kilo_user_id":"ada","cost":1}\n', /not a column|quote/],
  ])('refuse the header %j', async (text, problem) => {
    const [first, ...rest] = await events(`${text}ada,1,2\n`);
    expect(first).toMatchObject({ line: 1, fatal: true, problem: expect.stringMatching(problem) });
    expect(rest).toEqual([]);
  });

  it('need a header', async () => {
    const problem = 'is empty: expected a header of column names';
    expect(await events('')).toEqual([{ line: 1, problem, fatal: true }]);
  });

  it('with too few or too many cells are rejected', async () => {
    expect(await events('kilo_user_id,cost\nada\nada,1,2\nada,1')).toMatchObject([
      { line: 2, problem: 'has 1 cells, the header 2' },
      { line: 3, problem: 'has 3 cells, the header 2' },
      { line: 4, event: { kilo_user_id: 'ada', cost: 1 } },
    ]);
  });
});

it('JSONL lines that are not objects are rejected, the others kept', async () => {
  const text = '{"kilo_user_id":"ada","cost":1}\n[1]\nnot json\n{"kilo_user_id":"ada","co';
  expect(await collect(readJsonl(linesOf(text)))).toEqual([
    { line: 1, event: { kilo_user_id: 'ada', cost: 1 } },
    { line: 2, problem: 'is not a JSON object: expected one event a line' },
    { line: 3, problem: 'is not JSON' },
    { line: 4, problem: 'is not JSON' },
  ]);
});

describe('the Azure trace', () => {
  const reader = createAzureReader({
    assignPayer: () => ({ kilo_user_id: 'azure-user-001', organization_id: null }),
    listPrice: findListPrice('gpt-4o'),
    shiftByDays: 0,
  });
  const read = (text: string) => collect(reader(linesOf(text, 100)));
  const header = 'TIMESTAMP,ContextTokens,GeneratedTokens\r\n';

  it('is priced, and its times are cut to microseconds', async () => {
    const [first] = await read(`${header}2023-11-16 23:59:59.9999999,4808,10`);
    expect(first).toMatchObject({
      line: 2,
      event: {
        provider: 'azure',
        model: 'gpt-4o',
        cost: 12_120, // 4808 x 2.50 + 10 x 10.00 USD per million
        input_tokens: 4808,
        output_tokens: 10,
        created_at: '2023-11-16T23:59:59.999999Z',
      },
    });
  });

  it('keeps its good lines', async () => {
    const rows = ['2023-11-16 18:17:03,1,2', '2023-13-16 18:17:03,1,2', '2023-11-16 18:17:03,-1,2'];
    const found = await read(`${header}${rows.join('\r\n')}\r\n2023-11-16 18:17:03,1`);
    expect(found.map((item) => ('problem' in item ? item.problem : 'ok'))).toEqual([
      'ok',
      expect.stringContaining('TIMESTAMP'),
      expect.stringContaining('ContextTokens'),
      'has 2 cells, the header 3',
    ]);
  });

  it.each(['', 'kilo_user_id,cost\nada,1\n', '{"cost":1}\n'])('is not %j', async (text) => {
    expect(await read(text)).toMatchObject([{ line: 1, fatal: true }]);
  });
});

describe('ids of rows', () => {
  const event = {
    kilo_user_id: 'ada',
    cost: 5,
    created_at: '2026-11-01T10:00:00Z',
    tags: ['b', 'a'],
    metadata: { latency: 12.3456789, editor_name: 'vscode' },
  };
  const idOf = (...events: UsageEvent[]) => {
    const ids = new RowIds();
    return events.map((each) => ids.idOf(each)).at(-1);
  };

  it('are those of the content, however it is written', () => {
    const same: UsageEvent[] = [
      { ...event, created_at: '2026-11-01T11:00:00.000+01:00' },
      { ...event, created_at: '2026-11-01 10:00:00+00', model: null },
      { ...event, tags: ['a', 'b', 'a'], input_tokens: 0, has_error: false },
      { ...event, metadata: { editor_name: 'vscode', latency: 12.345679 } },
    ];
    for (const each of same) expect(idOf(each)).toBe(idOf(event));
    expect(idOf(event)).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-/);
  });

  it('differ where any of it differs', () => {
    const others: UsageEvent[] = [
      { ...event, cost: 6 },
      { ...event, created_at: '2026-11-01T10:00:00.000001Z' },
      { ...event, api_key_id: '6f6b1a52-57a4-4f1a-a2f0-8f0c2ad1c001' },
      { ...event, tags: ['a'] },
      { ...event, metadata: { latency: 12.3456789 } },
    ];
    expect(new Set([event, ...others].map((each) => idOf(each))).size).toBe(6);
  });

  it('number equal rows', () => {
    expect(idOf(event, event)).not.toBe(idOf(event));
    expect(idOf(event, { ...event, cost: 6 }, event)).toBe(idOf(event, event));
  });

  it('stay what they are', () => {
    expect(idOf({ kilo_user_id: 'ada', cost: 5 })).toBe('2eb052b0-680b-8855-a908-aaa0a25f8dc1');
    expect(idOfKey('litellm row', 'chatcmpl-1')).toBe('69138ca1-85ec-8c21-b055-110b944793ee');
  });
});

it('occurrences are counted as a map would, while the table grows', () => {
  const occurrences = new Occurrences();
  const counts = new Map<number, number>();
  const wrong: unknown[] = [];
  for (let at = 0; at < 60_000; at += 1) {
    const key = (at * 7_919) % 20_011;
    const count = (counts.get(key) ?? 0) + 1;
    counts.set(key, count);
    const counted = occurrences.count(sha256(String(key)));
    if (counted !== count) wrong.push({ at, count, counted });
  }
  expect(counts.size).toBe(20_011);
  expect(wrong).toEqual([]);
});

describe('payers of the Azure trace', () => {
  const occurrences = new Occurrences();
  const hashOf = (row: number) => hashOccurrence(`row ${row}`, occurrences);

  it('spread over all users, a quarter of the requests over the organizations', () => {
    const payers = Array.from({ length: 4000 }, (_, line) =>
      assignPayer(hashOf(line), { users: 20, organizations: 2 }),
    );
    expect(new Set(payers.map((payer) => payer.kilo_user_id)).size).toBe(20);
    const shared = payers.filter((payer) => payer.organization_id !== null);
    expect(shared.length).toBeGreaterThan(800);
    expect(shared.length).toBeLessThan(1200);
    const organizationsOf = new Map<string, Set<string | null>>();
    for (const { kilo_user_id, organization_id } of shared) {
      const known = organizationsOf.get(kilo_user_id) ?? new Set();
      organizationsOf.set(kilo_user_id, known.add(organization_id));
    }
    expect([...organizationsOf.values()].every((known) => known.size === 1)).toBe(true);
    expect(azureOrganizationId(1)).not.toBe(azureOrganizationId(2));
  });

  it('are personal when there are no organizations', () => {
    const payer = assignPayer(hashOf(5), { users: 1, organizations: 0 });
    expect(payer).toEqual({ kilo_user_id: 'azure-user-001', organization_id: null });
  });
});

describe('list prices', () => {
  it('round once, half away from zero, without binary noise', () => {
    const price = findListPrice('openai/gpt-4o');
    const cost = (inputTokens: number) =>
      price.priceRequest({ inputTokens, outputTokens: 0, at: new Date('2026-11-22T00:00:00Z') });
    // 2.5 microdollars a token.
    for (let tokens = 1; tokens < 5000; tokens += 2)
      expect(cost(tokens)).toBe((5 * tokens + 1) / 2);
    for (let tokens = 0; tokens < 5000; tokens += 2) expect(cost(tokens)).toBe((5 * tokens) / 2);
  });

  it('of a model nobody knows name the remedy', () => {
    expect(() => findListPrice('no-such-model-1')).toThrow(/--model/);
  });
});

describe('whole days', () => {
  it('keep the time of day to the microsecond', () => {
    const event = { kilo_user_id: 'ada', cost: 1, created_at: '2023-11-16T23:59:59.123456Z' };
    expect(shiftEvent(event, 1102)).toMatchObject({ created_at: '2026-11-22T23:59:59.123456Z' });
  });

  it('are UTC days', () => {
    const event = { kilo_user_id: 'ada', cost: 1, created_at: '2023-11-16T20:00:00-05:00' };
    expect(dayOfEvent(event)).toBe('2023-11-17');
    expect(shiftEvent(event, 1)).toMatchObject({ created_at: '2023-11-18T01:00:00.000000Z' });
  });

  it('leave events without an instant alone', () => {
    const event = { kilo_user_id: 'ada', cost: 1 };
    expect(shiftEvent(event, 5)).toBe(event);
    expect(dayOfEvent(event)).toBeNull();
  });
});

describe('cells of other products', () => {
  it.each([
    [
      ['a', 'b'],
      ['a', 'b'],
    ],
    ['["a","b"]', ['a', 'b']],
    [JSON.stringify('["a","b"]'), ['a', 'b']],
    ["['a', 'b']", ['a', 'b']],
    ['{a,b}', ['a', 'b']],
    ['b,a', ['a', 'b']],
    ['"a"', ['a']],
    ['2026', ['2026']],
    ['true', ['true']],
    ['null', []],
    ['{"a":1}', []],
  ])('hold tags: %j', (cell, tags) => {
    expect(readTags(cell, new ImportNotes())).toEqual(tags);
  });

  it.each([
    [{ a: 1 }, { a: 1 }],
    ['{"a":1}', { a: 1 }],
    [JSON.stringify('{"a":1}'), { a: 1 }],
    ['[1]', {}],
    ['"a"', {}],
    ['', {}],
    [undefined, {}],
  ])('hold objects: %j', (cell, object) => {
    expect(readObject(cell)).toEqual(object);
  });
});
