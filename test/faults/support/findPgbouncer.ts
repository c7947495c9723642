import { accessSync, constants } from 'node:fs';

/** Debian keeps it out of the path of ordinary users. */
const PLACES = ['/usr/sbin/pgbouncer', '/usr/local/bin/pgbouncer', '/opt/homebrew/bin/pgbouncer'];

/** PGBOUNCER_PATH, else where packages put it. */
export function findPgbouncer(): string | null {
  return [process.env.PGBOUNCER_PATH, ...PLACES].find((place) => place && canRun(place)) ?? null;
}

function canRun(program: string): boolean {
  try {
    accessSync(program, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
