import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  currentIdentity,
  isAlive,
  isLocal,
  type ProcessIdentity,
} from '../db/embedded/processes.js';

/** Which `start` serves from a data directory; mode 0600. */
export interface Runtime {
  process: ProcessIdentity;
  /** Null until the server listens. */
  serverUrl: string | null;
}

function runtimePath(dataDir: string): string {
  return join(dataDir, 'runtime.json');
}

/** The `start` that runs from this data directory; null when none does, also after a crash. */
export async function readRuntime(dataDir: string): Promise<Runtime | null> {
  try {
    const runtime = JSON.parse(await readFile(runtimePath(dataDir), 'utf8')) as Runtime;
    return isLocal(runtime.process) && isAlive(runtime.process) ? runtime : null;
  } catch {
    return null;
  }
}

/** Whole or not at all: a reader never sees half a file. */
export async function writeRuntime(dataDir: string, serverUrl: string | null): Promise<void> {
  const path = runtimePath(dataDir);
  const draft = `${path}.${process.pid}.draft`;
  const runtime: Runtime = { process: currentIdentity(), serverUrl };
  await writeFile(draft, JSON.stringify(runtime), { mode: 0o600 });
  await rename(draft, path);
}

export async function removeRuntime(dataDir: string): Promise<void> {
  await rm(runtimePath(dataDir), { force: true });
}
