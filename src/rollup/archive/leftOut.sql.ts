import { getTableColumns } from 'drizzle-orm';
import { type Statement, textArray } from '../../db/statement.js';
import { microdollarUsage } from '../../schema/usage.js';
import { microdollarUsageMetadata } from '../../schema/usageMetadata.js';

/** What files hold, or what is made of it: `table.column`. */
const OWN = [
  ...Object.keys(getTableColumns(microdollarUsage)).map((name) => `microdollar_usage.${name}`),
  ...Object.keys(getTableColumns(microdollarUsageMetadata)).map(
    (name) => `microdollar_usage_metadata.${name}`,
  ),
];

/** Columns of other programs on the tables whose rows are deleted: no file has them. */
export function leftOutColumnsStatement(): Statement {
  return {
    name: 'microdollar_columns_no_archive_has',
    text: `/* microdollar.findLeftOutColumns */
select t.name || '.' || a.attname as name
from unnest(array['microdollar_usage', 'microdollar_usage_metadata']) as t(name)
join pg_attribute as a on a.attrelid = to_regclass(t.name)
where a.attnum > 0
  and not a.attisdropped
  and a.attgenerated = ''
  and t.name || '.' || a.attname <> all ($1::text[])
order by t.name, a.attnum`,
    values: [textArray(OWN)],
  };
}
