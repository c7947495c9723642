import type pg from 'pg';
import { LEDGER_NAMESPACE } from '../ledgerSchema.js';

/** Views and materialized views of others on views of the ledger that are to be made anew. */
const DEPENDENTS = `
select distinct v.oid::regclass::text as "view", d.relname as "on"
from pg_depend as p
join pg_rewrite as r on r.oid = p.objid
join pg_class as v on v.oid = r.ev_class
join pg_class as d on d.oid = p.refobjid
where p.classid = 'pg_rewrite'::regclass
  and p.refclassid = 'pg_class'::regclass
  and d.relnamespace = ${LEDGER_NAMESPACE}
  and d.relname = any($1::text[])
  and not (v.relnamespace = d.relnamespace and v.relname = any($1::text[]))
order by 1, 2`;

/** What is in the way of making the ledger's views anew, with the remedy. */
export async function findViewsOn(
  client: pg.Client,
  views: readonly { name: string }[],
): Promise<string[]> {
  const names = [...views.map((view) => view.name), 'microdollar_usage_pending'];
  const result = await client.query<{ view: string; on: string }>(DEPENDENTS, [names]);
  return result.rows.map(
    (row) =>
      `view ${row.view} is made of ${row.on}, whose sums become numeric: drop it, run ` +
      '`microdollar migrate`, and create it again',
  );
}
