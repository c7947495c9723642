import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  currentIdentity,
  isAlive,
  isLocal,
  type ProcessIdentity,
} from '../db/embedded/processes.js';
import type { Environment } from './environment.js';
import { placeOf } from './otherDatabase.js';

/** Which `start` serves from a data directory; mode 0600. */
export interface Runtime {
  process: ProcessIdentity;
  /** Null until the server listens. */
  serverUrl: string | null;
  /** Of DATABASE_URL, without its password; null: the embedded one. */
  database: string | null;
}

/** An embedded database is served by one `start`; any other by as many as share the directory. */
const SOLE = 'runtime.json';
const ONE_OF_MANY = /^runtime-\d+\.json$/;

type Place = Pick<Environment, 'dataDir' | 'databaseUrl'>;

/** Of shards the first stands for all of them. */
export function placeOfStart({ dataDir, databaseUrl, shards }: Environment): Place {
  return { dataDir, databaseUrl: shards?.[0]?.databaseUrl ?? databaseUrl };
}

function fileOf({ dataDir, databaseUrl }: Place): string {
  return join(dataDir, databaseUrl === null ? SOLE : `runtime-${process.pid}.json`);
}

/** The `start` that serves this directory's embedded database; null: none, also after a crash. */
export function readRuntime(dataDir: string): Promise<Runtime | null> {
  return readFileOf(join(dataDir, SOLE));
}

async function readFileOf(path: string): Promise<Runtime | null> {
  try {
    const runtime = JSON.parse(await readFile(path, 'utf8')) as Runtime;
    return isLocal(runtime.process) && isAlive(runtime.process) ? runtime : null;
  } catch {
    return null;
  }
}

/** Whether a `start` with a DATABASE_URL runs from this directory. */
export async function servesElsewhere(dataDir: string): Promise<boolean> {
  const names = await readdir(dataDir).catch(() => []);
  const files = names.filter((name) => ONE_OF_MANY.test(name));
  const runtimes = await Promise.all(files.map((name) => readFileOf(join(dataDir, name))));
  return runtimes.some((runtime) => runtime !== null);
}

/** URLs of every `start` on this machine that serves this database from this directory. */
export async function findServers({ dataDir, databaseUrl }: Place): Promise<string[]> {
  const names = await readdir(dataDir).catch(() => []);
  const files = databaseUrl === null ? [SOLE] : names.filter((name) => ONE_OF_MANY.test(name));
  const runtimes = await Promise.all(files.sort().map((name) => readFileOf(join(dataDir, name))));
  const database = databaseUrl === null ? null : placeOf(databaseUrl);
  return runtimes.flatMap((runtime) =>
    runtime?.database === database && runtime.serverUrl !== null ? [runtime.serverUrl] : [],
  );
}

/** Whole or not at all: a reader never sees half a file. */
export async function writeRuntime(place: Place, serverUrl: string | null): Promise<void> {
  const path = fileOf(place);
  const draft = `${path}.${process.pid}.draft`;
  const database = place.databaseUrl === null ? null : placeOf(place.databaseUrl);
  const runtime: Runtime = { process: currentIdentity(), serverUrl, database };
  await writeFile(draft, JSON.stringify(runtime), { mode: 0o600 });
  await rename(draft, path);
}

/** Ours: of two at once, the one that fails must not hide the other. */
export async function removeRuntime(place: Place): Promise<void> {
  const path = fileOf(place);
  const runtime = await readFile(path, 'utf8').catch(() => null);
  const own = JSON.stringify({ process: currentIdentity() }).slice(0, -1);
  if (runtime?.startsWith(own)) await rm(path, { force: true });
}
