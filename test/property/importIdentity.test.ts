import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { importFiles } from '../../src/importing/importFiles.js';
import { findListPrice } from '../../src/importing/listPrice.js';
import type { ImportFormat } from '../../src/importing/types.js';
import { formatUsd } from '../../src/money.js';
import type { UsageEvent } from '../../src/record/types.js';
import { inForm } from '../support/form.js';

/**
 * Exports of a month so far, each longer than the one before, saved again by other programs: what is
 * recorded is the multiset of the last one's rows, exactly.
 */

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'microdollar-identity-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** What a row of an export means; few values, so that equal rows are common. */
interface Row {
  user: string;
  costMicrodollars: number;
  minute: number;
  micros: number;
  model: string | null;
  tokens: number;
}

const row: fc.Arbitrary<Row> = fc.record({
  user: fc.constantFrom('ada', 'bob "the builder", jr', 'Zoë'),
  costMicrodollars: fc.constantFrom(0, 100, 1_500_000, -20),
  minute: fc.integer({ min: 0, max: 5 }),
  micros: fc.constantFrom(0, 120_000),
  model: fc.constantFrom(null, 'gpt-4o', 'a,b;c\nd'),
  tokens: fc.integer({ min: 0, max: 1 }),
});

/** How a program writes a file. */
interface Style {
  bom: boolean;
  end: string;
  endsLast: boolean;
  quotesAll: boolean;
  delimiter: string;
  gzip: boolean;
  offsetHours: number;
  fraction: number;
  decimals: number;
  seed: number;
}

const style: fc.Arbitrary<Style> = fc.record({
  bom: fc.boolean(),
  end: fc.constantFrom('\n', '\r\n', '\r'),
  endsLast: fc.boolean(),
  quotesAll: fc.boolean(),
  delimiter: fc.constantFrom(',', ';', '\t'),
  gzip: fc.boolean(),
  offsetHours: fc.constantFrom(0, 0, 1, -7),
  fraction: fc.constantFrom(2, 3, 6),
  decimals: fc.integer({ min: 0, max: 2 }),
  seed: fc.nat(),
});

/** A permutation that follows from a seed. */
function shuffle<T>(items: readonly T[], seed: number): T[] {
  const result = [...items];
  let state = seed + 1;
  for (let at = result.length - 1; at > 0; at -= 1) {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    const other = state % (at + 1);
    [result[at], result[other]] = [result[other] as T, result[at] as T];
  }
  return result;
}

function timeOf({ minute, micros }: Row, { offsetHours, fraction }: Style, isUtc: boolean): string {
  const at = Date.UTC(2026, 10, 20, 10, minute) + offsetHours * 3_600_000;
  const local = new Date(at).toISOString().slice(0, 19);
  const digits = String(micros).padStart(6, '0').slice(0, fraction);
  if (isUtc)
    return `${new Date(at - offsetHours * 3_600_000).toISOString().slice(0, 19)}.${digits}`;
  if (offsetHours === 0) return `${local}.${digits}Z`;
  const sign = offsetHours < 0 ? '-' : '+';
  return `${local}.${digits}${sign}${String(Math.abs(offsetHours)).padStart(2, '0')}:00`;
}

type Columns = (row: Row, style: Style) => Record<string, string>;

const whole = (value: number, { decimals }: Style) =>
  decimals === 0 ? String(value) : value.toFixed(decimals);

const FORMATS: { format: ImportFormat; columns: Columns; takesDelimiters: boolean }[] = [
  {
    format: 'csv',
    takesDelimiters: true,
    columns: (each, how) => ({
      kilo_user_id: each.user,
      cost: whole(each.costMicrodollars, how),
      created_at: timeOf(each, how, false),
      model: each.model ?? '',
      input_tokens: each.tokens === 0 && how.decimals === 0 ? '' : whole(each.tokens, how),
    }),
  },
  {
    format: 'litellm',
    takesDelimiters: true,
    columns: (each, how) => ({
      user: each.user,
      spend: formatUsd(each.costMicrodollars) + '0'.repeat(how.decimals),
      startTime: timeOf(each, how, how.offsetHours === 0),
      model: each.model ?? '',
      prompt_tokens: whole(each.tokens, how),
      request_tags: how.quotesAll ? '["x", "y"]' : '["y","x"]',
    }),
  },
  {
    format: 'openrouter',
    takesDelimiters: true,
    columns: (each, how) => ({
      cost_total:
        how.decimals === 0 ? String(each.costMicrodollars / 1e6) : formatUsd(each.costMicrodollars),
      created_at: timeOf(each, how, how.offsetHours === 0),
      model_permaslug: each.model ?? '',
      tokens_prompt: whole(each.tokens, how),
      api_key_name: each.user,
    }),
  },
];

function save(rows: readonly Row[], columns: Columns, how: Style): Buffer {
  const names = shuffle(Object.keys(columns(rows[0] as Row, how)), how.seed);
  const cell = (text: string) =>
    how.quotesAll || /["\n,;\t]/.test(text)
      ? `"${text.replaceAll('"', '""').replaceAll('\n', how.end)}"`
      : text;
  const lines = [
    names.map(cell),
    ...shuffle(rows, how.seed).map((each) => {
      const cells = columns(each, how);
      return names.map((name) => cell(cells[name] ?? ''));
    }),
  ].map((cells) => cells.join(how.delimiter));
  const text = (how.bom ? '\uFEFF' : '') + lines.join(how.end) + (how.endsLast ? how.end : '');
  return how.gzip ? gzipSync(text) : Buffer.from(text);
}

it.each(FORMATS)('of $format', async ({ format, columns }) => {
  const path = join(dir, format);
  const months = fc.tuple(
    fc.array(row, { minLength: 1, maxLength: 12 }),
    fc.array(fc.record({ grown: fc.nat(12), how: style }), { minLength: 1, maxLength: 4 }),
    style,
  );
  await fc.assert(
    fc.asyncProperty(months, async ([rows, exports, last]) => {
      const recorded = new Map<string, UsageEvent>();
      const sink = async (events: readonly UsageEvent[]) =>
        events.map((event) => {
          const id = event.id as string;
          if (recorded.has(id)) return { status: 'duplicate' as const };
          recorded.set(id, event);
          return { status: 'recorded' as const };
        });
      const sizes = exports
        .map(({ grown }) => Math.min(rows.length, grown + 1))
        .sort((a, b) => a - b);
      const files = [
        ...exports.map(({ how }, at) => ({ size: sizes[at] ?? 1, how })),
        { size: rows.length, how: last },
      ];
      for (const { size, how } of files) {
        await writeFile(path, save(rows.slice(0, size), columns, how));
        const report = await importFiles({
          files: [{ path, format }],
          sink,
          azure: { users: 1, organizations: 0, listPrice: findListPrice('gpt-4o') },
          payer: { kiloUserId: 'payer' },
        });
        expect(report.rejections).toEqual([]);
        expect(report.lines).toBe(size);
        expect(recorded.size).toBe(size);
      }
      const meaning = (event: UsageEvent) =>
        JSON.stringify([
          event.cost,
          new Date(event.created_at as string).getTime(),
          event.model ?? null,
          event.input_tokens ?? 0,
        ]);
      const expected = rows.map((each) =>
        JSON.stringify([
          each.costMicrodollars,
          Date.UTC(2026, 10, 20, 10, each.minute) + each.micros / 1_000,
          each.model,
          each.tokens,
        ]),
      );
      expect([...recorded.values()].map(meaning).sort()).toEqual(expected.sort());
    }),
    { numRuns: inForm(25, 150) },
  );
});
