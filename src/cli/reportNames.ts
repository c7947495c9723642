import type pg from 'pg';
import { type AccountNames, readNames } from '../accounts/names.js';
import type { UsageReport, UsageReportRow } from '../ledgerTypes.js';
import { GROUPS } from '../report/usage/query.js';

export type GroupColumn = (typeof GROUPS)[keyof typeof GROUPS];

/** A row with what its key and its member are called; null: not named. */
export type NamedRow = UsageReportRow & {
  api_key_name?: string | null;
  kilo_user_name?: string | null;
};

/** Groups that are ids, the field that has their names, and which names these are. */
const NAMED = {
  api_key_id: { field: 'api_key_name', of: 'keys' },
  kilo_user_id: { field: 'kilo_user_name', of: 'users' },
} as const satisfies Partial<Record<GroupColumn, { field: string; of: keyof AccountNames }>>;

const namedColumns = ({ by }: UsageReport) =>
  by
    .map((group) => GROUPS[group])
    .filter((column): column is keyof typeof NAMED => column in NAMED);

/** The report with names beside ids, where it is by key or member. @throws LedgerError `unavailable` */
export async function withNames(
  pool: pg.Pool,
  report: UsageReport,
): Promise<Omit<UsageReport, 'rows'> & { rows: NamedRow[] }> {
  const columns = namedColumns(report);
  const idsIn = (column: keyof typeof NAMED) => [
    ...new Set(report.rows.flatMap((row) => row[column] ?? [])),
  ];
  const names = await readNames(pool, { keys: idsIn('api_key_id'), users: idsIn('kilo_user_id') });
  const nameIn = (row: UsageReportRow, column: keyof typeof NAMED) => {
    const { field, of } = NAMED[column];
    return [field, names[of].get(row[column] ?? '') ?? null];
  };
  return {
    ...report,
    rows: report.rows.map((row) =>
      row.other
        ? row
        : { ...row, ...Object.fromEntries(columns.map((column) => nameIn(row, column))) },
    ),
  };
}

/** A group as the table shows it: `laptop (0b5e7c1a-...)`, or the id alone. */
export function describeGroup(row: NamedRow, column: GroupColumn): string {
  const id = row[column] ?? '-';
  const name = column in NAMED ? row[NAMED[column as keyof typeof NAMED].field] : null;
  return name ? `${name} (${id})` : id;
}
