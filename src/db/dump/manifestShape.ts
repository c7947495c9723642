import { z } from 'zod';
import type { Manifest } from './manifest.js';

/** Names a file too. */
const name = z.string().regex(/^[a-z_][a-z0-9_]*$/, 'must be the name of a table or column');
const count = z.number().int().min(0, 'must be a number of rows');

const table = z
  .object({
    name,
    columns: z.array(name).min(1, 'must have columns'),
    rows: count,
    sha256: z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in hexadecimal digits'),
    wider: z.object({ nullable: z.array(name), bigint: z.array(name) }).exactOptional(),
  })
  .superRefine(({ columns, wider }, context) => {
    for (const part of ['nullable', 'bigint'] as const) {
      const unknown = wider?.[part].find((column) => !columns.includes(column));
      if (unknown === undefined) continue;
      const message = `names ${unknown}, which is not in columns`;
      context.addIssue({ code: 'custom', path: ['wider', part], message });
    }
  });

const manifest = z.looseObject({
  written_at: z.string(),
  database: z.string(),
  schema: z.string().exactOptional(),
  server_version: z.string(),
  migrations: z.array(z.string()).min(1, 'must name the migrations that made the tables'),
  tables: z.array(table),
  sequences: z.array(
    z.object({
      table: name,
      column: name,
      lastValue: z.string().regex(/^-?\d+$/, 'must be an integer, as text'),
      isCalled: z.boolean(),
    }),
  ),
}) satisfies z.ZodType<Omit<Manifest, 'format' | 'version'>>;

/** The first field that is not as a dump writes it, and why; null: there is none. */
export function findMisshapen(value: unknown): { field: string; problem: string } | null {
  const { error } = manifest.safeParse(value, {
    error: ({ code, input, expected }) => {
      if (code !== 'invalid_type') return undefined;
      return input === undefined ? 'is missing' : `must be of type ${expected}`;
    },
  });
  const issue = error?.issues[0];
  return issue ? { field: issue.path.map(String).join('.'), problem: issue.message } : null;
}
