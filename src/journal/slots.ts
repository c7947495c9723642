import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { StartLock } from '../db/embedded/membership.js';
import { currentIdentity } from '../db/embedded/processes.js';
import { LedgerError } from '../errors.js';
import { type FileSystem, nodeFileSystem } from './fileSystem.js';

/**
 * One directory of a data directory's journals, owned by one process at a time. Several processes
 * may share a data directory: each takes the first slot that is free. What a process left when it
 * was killed is found by the next one that takes its slot, or adopted by one that still runs.
 */
export interface Slot {
  index: number;
  directory: string;
  /** Whoever had the slot and may have left intents; dead, for we hold their lock. */
  deadOwners(): readonly string[];
  /** An id for this process's life, which its intents bear. Durable when it resolves. */
  addOwner(): Promise<string>;
  /** Nothing of this owner is left. */
  forgetOwner(owner: string): Promise<void>;
  /** False when another process has taken the slot over. */
  isOwner(): boolean;
  release(): void;
}

interface OwnerFile {
  owners: string[];
}

const MAX_SLOTS = 64;
const OWNER_FILE = 'owner.json';
export const LOCK_DIRECTORY = 'lock';
export const DEAD_LETTER_FILE = 'dead-letters.jsonl';

export function journalRoot(dataDir: string): string {
  return path.join(dataDir, 'journal');
}

/** The first free slot. @throws LedgerError `unavailable`: all are taken */
export async function claimSlot(
  root: string,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<Slot> {
  await fileSystem.makeDirectory(root);
  for (let index = 0; index < MAX_SLOTS; index++) {
    const slot = await tryClaim(root, index, fileSystem);
    if (slot !== null) return slot;
  }
  const pids = holders(root).join(', ');
  throw new LedgerError(
    'unavailable',
    `all ${MAX_SLOTS} journals in ${root} are held, by processes ${pids}; stop some of them, or ` +
      'set another MICRODOLLAR_DATA_DIR',
    { details: { directory: root } },
  );
}

/**
 * Slots that someone left without releasing their content: each is claimed, worked on and released. One that
 * fails neither keeps the others waiting nor is held.
 */
export async function adoptOrphans(
  root: string,
  work: (slot: Slot) => Promise<void>,
  onFailure: (index: number, error: unknown) => void,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<void> {
  for (const index of await listSlots(root, fileSystem)) {
    try {
      if (!(await isLeftBehind(root, index, fileSystem))) continue;
      const slot = await tryClaim(root, index, fileSystem);
      if (slot === null) continue;
      try {
        await work(slot);
      } finally {
        slot.release();
      }
    } catch (error) {
      onFailure(index, error);
    }
  }
}

/** Indexes of the slots that were ever used. */
export async function listSlots(
  root: string,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<number[]> {
  const names = await fileSystem.list(root).catch(() => []);
  return names
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
}

export function slotDirectory(root: string, index: number): string {
  return path.join(root, String(index));
}

async function tryClaim(root: string, index: number, fileSystem: FileSystem): Promise<Slot | null> {
  const directory = slotDirectory(root, index);
  await fileSystem.makeDirectory(directory);
  const lock = new StartLock(path.join(directory, LOCK_DIRECTORY));
  const release = lock.tryAcquire();
  if (release === null) return null;
  try {
    const file = path.join(directory, OWNER_FILE);
    let owners = await readOwners(file, fileSystem);
    let own: string | null = null;
    // Of the lock's ruling file: who was taken over has none of it, and leaves the list to the next owner.
    const isHeld = () => JSON.stringify(lock.holder()) === JSON.stringify(currentIdentity());
    const save = async () => {
      if (isHeld()) await fileSystem.replace(file, Buffer.from(JSON.stringify({ owners })));
    };
    return {
      index,
      directory,
      deadOwners: () => owners.filter((owner) => owner !== own),
      async addOwner() {
        own ??= randomUUID();
        owners = [...new Set([...owners, own])];
        // Before the first intent bears the id: no crash leaves an intent without its owner.
        await save();
        return own;
      },
      async forgetOwner(owner) {
        owners = owners.filter((each) => each !== owner);
        await save();
      },
      isOwner: createOwnershipCheck(isHeld),
      release,
    };
  } catch (error) {
    release();
    throw error;
  }
}

/**
 * A process of another container is taken for dead when it has not refreshed its lock for 30 s;
 * one that was only paused must notice before it writes. Looked up when that may have happened.
 */
function createOwnershipCheck(isHeld: () => boolean): () => boolean {
  const checkEveryMs = 5_000;
  let checkedAt = performance.now();
  let isOwner = true;
  return () => {
    const now = performance.now();
    if (isOwner && now - checkedAt > checkEveryMs) {
      checkedAt = now;
      isOwner = isHeld();
    }
    return isOwner;
  };
}

async function readOwners(file: string, fileSystem: FileSystem): Promise<string[]> {
  const text = (await fileSystem.readFile(file))?.toString();
  try {
    return text === undefined ? [] : (JSON.parse(text) as OwnerFile).owners;
  } catch {
    // Damaged: their intents are settled when their heartbeat has expired.
    return [];
  }
}

/** Segments, dead letters, or owners that may have intents. */
async function isLeftBehind(root: string, index: number, fileSystem: FileSystem): Promise<boolean> {
  const directory = slotDirectory(root, index);
  const names = await fileSystem.list(directory).catch(() => []);
  if (names.some((name) => name.endsWith('.journal') || name === DEAD_LETTER_FILE)) return true;
  return (await readOwners(path.join(directory, OWNER_FILE), fileSystem)).length > 0;
}

function holders(root: string): number[] {
  const pids: number[] = [];
  for (let index = 0; index < MAX_SLOTS; index++) {
    const lock = new StartLock(path.join(slotDirectory(root, index), LOCK_DIRECTORY));
    const pid = lock.holder()?.pid;
    if (pid !== undefined) pids.push(pid);
  }
  return pids;
}
