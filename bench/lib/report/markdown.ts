import { formatNumber } from './svg.js';

export type Cell = string | number | null;

/** A table; numbers and cells that begin with a digit are aligned to the right by column. */
export function markdownTable(columns: readonly string[], rows: readonly (readonly Cell[])[]) {
  const isNumeric = (index: number) =>
    index > 0 && rows.some((row) => typeof row[index] === 'number' || row[index] === null);
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [
    line(columns.map(escapeCell)),
    line(columns.map((_, index) => (isNumeric(index) ? '---:' : '---'))),
    ...rows.map((row) => line(row.map(formatCell))),
  ].join('\n');
}

function formatCell(cell: Cell): string {
  if (cell === null) return '';
  return typeof cell === 'number' ? formatNumber(cell) : escapeCell(cell);
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

/** Source text is wrapped for reading in an editor. */
export function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}
