import { closeSync, fstatSync, openSync, readSync, renameSync, statSync } from 'node:fs';
import type { Places } from './cluster.js';

const LOG_MAX_BYTES = 10 * 1024 * 1024;
const TAIL_MAX_BYTES = 4096;
/** Lines that say what went wrong; initdb writes no severity. */
const TELLING = /\b(FATAL|PANIC|ERROR|HINT):|error: |invalid |could not /;
/** After what initdb is at. */
const STAMP = /^(.*\.\.\. )?\d{4}-\d\d-\d\d [\d:.]+ \w+ \[\d+\] /;

/** The server log, for appending; a long one is set aside first. */
export function openLog(places: Places): number {
  if (logSize(places) > LOG_MAX_BYTES) renameSync(places.log, `${places.log}.1`);
  return openSync(places.log, 'a', 0o600);
}

/** In bytes: what a program writes from now on comes after. */
export function logSize(places: Places): number {
  return statSync(places.log, { throwIfNoEntry: false })?.size ?? 0;
}

/** The log's last lines, without time and process, from a size that it had before. */
export function tailOfLog(places: Places, fromBytes = 0): string[] {
  try {
    const file = openSync(places.log, 'r');
    try {
      const { size } = fstatSync(file);
      const start = Math.max(fromBytes, size - TAIL_MAX_BYTES, 0);
      const tail = Buffer.alloc(Math.max(0, size - start));
      readSync(file, tail, 0, tail.length, start);
      const lines = tail.toString('utf8').split('\n');
      return lines.map((line) => line.replace(STAMP, '').trim()).filter((line) => line !== '');
    } finally {
      closeSync(file);
    }
  } catch {
    return [];
  }
}

/** What the log says of an end, on one line: the last telling lines, else the last ones. */
export function summarize(lines: readonly string[]): string {
  const telling = lines.filter((line) => TELLING.test(line));
  const chosen = telling.length > 0 ? telling : lines;
  return [...new Set(chosen)].slice(-3).join('; ');
}
