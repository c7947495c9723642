import type { Queryable } from '../journal.js';
import { USAGE } from './months.js';

const SAMPLED_ROWS = 10_000;
/** Corrections have ids that follow from what they correct, so not all of a good ledger's are v7. */
const ENOUGH = 0.95;

interface RecentIds {
  rows: number;
  /** UUID v7 whose time is no later than a day from now. */
  timed: number;
  other: string | null;
}

/** By the index on `created_at`. */
const RECENT = `
select count(*)::integer as rows,
  (count(*) filter (where r.is_timed))::integer as timed,
  max(r.id::text) filter (where not r.is_timed) as other
from (
  select m.id,
    get_byte(uuid_send(m.id), 6) >> 4 = 7
      and ('x' || left(translate(m.id::text, '-', ''), 12))::bit(48)::bigint
        between 1e12 and extract(epoch from now() + interval '1 day') * 1000 as is_timed
  from ${USAGE} as m
  order by m.created_at desc
  limit ${SAMPLED_ROWS}
) as r`;

/** Why a ledger whose newest ids are these cannot be partitioned by their time; null: it can. */
export async function findIdProblem(database: Queryable): Promise<string | null> {
  const { rows, timed, other } = (await database.query(RECENT)).rows[0] as RecentIds;
  if (timed >= rows * ENOUGH) return null;
  const share = Math.floor((100 * timed) / rows);
  return (
    `of the ${rows} newest usage rows ${timed} (${share} %) have an id that is a UUID v7, such as the ` +
    `ledger and its gateway make; ${ENOUGH * 100} % are needed. Of others, such as ${other}, most ` +
    'would go into the default partition, which no archive can drop: have the programs that give ' +
    'ids give UUID v7, or none'
  );
}
