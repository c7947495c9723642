import type { Statement } from '../../db/statement.js';

/** Raises the horizon to the end of a day; never lowers it. A row comes back when it changed. */
export function raiseHorizonStatement(horizon: string): Statement {
  return {
    name: 'microdollar_raise_archive_horizon',
    text: `/* microdollar.raiseArchiveHorizon */
update ledger_settings
set archive_horizon = $1::timestamptz,
  updated_at = now()
where id = 1
  and (archive_horizon is null or archive_horizon < $1::timestamptz)
returning id`,
    values: [horizon],
  };
}

/** As every writer reads it. */
export function readHorizonStatement(): Statement {
  return {
    name: 'microdollar_read_archive_horizon',
    text: `/* microdollar.readArchiveHorizon */
select to_char(archive_horizon at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as horizon
from ledger_settings
where id = 1`,
    values: [],
  };
}
