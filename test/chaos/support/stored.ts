import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import type pg from 'pg';
import { EXA_LOG, USAGE } from '../../faults/support/clientBook.sql.js';

/** A usage row or Exa request, wherever it lies by now. */
export interface Stored {
  place: 'table' | 'archive';
  kind: 'usage' | 'exa';
  user: string;
  organization: string | null;
  cost: bigint;
  createdAt: string;
}

interface Row {
  id: string;
  kilo_user_id: string;
  organization_id?: string | null;
  cost: string | number;
  created_at: string;
}

/** Everything there is, by id; ids that are there twice are problems. */
export async function readStored(
  pool: pg.Pool,
  archive: string,
): Promise<{ stored: Map<string, Stored>; problems: string[] }> {
  const stored = new Map<string, Stored>();
  const problems: string[] = [];
  const add = (row: Row, place: Stored['place'], kind: Stored['kind']) => {
    const before = stored.get(row.id);
    if (before) problems.push(`${row.id}: in ${before.place} and in ${place}`);
    stored.set(row.id, {
      place,
      kind,
      user: row.kilo_user_id,
      organization: row.organization_id ?? null,
      cost: BigInt(row.cost),
      createdAt: row.created_at,
    });
  };
  for (const row of (await pool.query<Row>(USAGE)).rows) add(row, 'table', 'usage');
  for (const row of (await pool.query<Row>(EXA_LOG)).rows) add(row, 'table', 'exa');
  for (const row of readArchived(archive)) add(row, 'archive', 'usage');
  return { stored, problems };
}

/** The lines of the finished files, read without the product. */
function readArchived(dir: string): Row[] {
  if (!existsSync(dir)) return [];
  const files = readdirSync(dir).filter((name) => name.endsWith('.jsonl.gz'));
  return files.flatMap((name) => {
    const text = gunzipSync(readFileSync(path.join(dir, name))).toString('utf8');
    const lines = text.split('\n').filter((line) => line !== '');
    // The first is a header, the last a trailer.
    return lines.slice(1, -1).map((line) => JSON.parse(line) as Row);
  });
}
