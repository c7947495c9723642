import type { MappingReport } from '../importing/importNotes.js';
import type { ImportReport } from '../importing/importReport.js';
import { alignTable, formatAmount, formatCount } from './output.js';

const UNKNOWN_ACCOUNT: ReadonlySet<string> = new Set(['unknown_user', 'unknown_organization']);
const CREATE_FIRST = '`user create` and `org create` make them; then import again';
const CREATE_ALONG =
  'with --create-accounts the import creates the users and organizations it names';

/** What became of the lines, for a person. */
export function describeReport(report: ImportReport): string {
  const accepted =
    BigInt(report.recorded_cost_microdollars) + BigInt(report.duplicate_cost_microdollars);
  const table = alignTable(
    [
      ['lines', formatCount(report.lines)],
      [
        report.dry_run ? 'would record' : 'recorded',
        formatCount(report.recorded),
        formatAmount(report.recorded_cost_microdollars),
      ],
      [
        'duplicates',
        formatCount(report.duplicates),
        formatAmount(report.duplicate_cost_microdollars),
      ],
      ['rejected', formatCount(report.rejected)],
      ['cost', '', formatAmount(accepted)],
    ],
    [1, 2],
  );
  const remarks = report.rejections.map(
    ({ file, line, code, reason }) => `${file}, line ${line}: ${reason} (${code})`,
  );
  const unlisted = report.rejected - report.rejections.length;
  if (unlisted > 0) remarks.push(`and ${formatCount(unlisted)} more`);
  if (report.rejections.some(({ code }) => UNKNOWN_ACCOUNT.has(code))) {
    remarks.push(report.mapping === undefined ? CREATE_FIRST : CREATE_ALONG);
  }
  if (report.nul_bytes_removed > 0) {
    remarks.push(`${formatCount(report.nul_bytes_removed)} NUL bytes removed`);
  }
  if (report.mapping !== undefined) remarks.push(...describeMapping(report.mapping));
  if (report.dry_run) remarks.push('nothing was written: this was a dry run');
  return [table, ...remarks].join('\n');
}

function describeMapping(mapping: MappingReport): string[] {
  const remarks = [`cost in the files: ${mapping.source_cost_usd} USD`];
  const rows = (count: number) => `${formatCount(count)} ${count === 1 ? 'row' : 'rows'}`;
  if (mapping.rounded_to_zero > 0) {
    remarks.push(`${rows(mapping.rounded_to_zero)} of less than half a microdollar recorded as 0`);
  }
  if (mapping.without_cost.length > 0) {
    const models = mapping.without_cost.map((each) => `${each.model ?? 'no model'} (${each.rows})`);
    remarks.push(`tokens and a cost of 0 in the file, by model: ${models.join(', ')}`);
  }
  for (const { what, rows: count } of mapping.left_out) {
    remarks.push(`left out of ${rows(count)}: ${what}`);
  }
  for (const key of mapping.keys) {
    remarks.push(`key ${key.name}: api_key_id ${key.api_key_id}, ${rows(key.rows)}`);
  }
  if (mapping.unknown_columns.length > 0) {
    remarks.push(`unknown columns, not read: ${mapping.unknown_columns.join(', ')}`);
  }
  if (mapping.unused_columns.length > 0) {
    remarks.push(`columns that events have no place for: ${mapping.unused_columns.join(', ')}`);
  }
  return remarks;
}
