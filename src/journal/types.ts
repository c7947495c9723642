import type { FileSystem } from './fileSystem.js';
import type { DamageReport } from './readAhead.js';

export interface JournalOptions {
  /** Owned by this process alone (slots.ts). Made if need be. */
  directory: string;
  /** Of all segments. Default 256 MiB. */
  maxBytes?: number;
  /** Before a new one is begun. Default 8 MiB. */
  segmentBytes?: number;
  fileSystem?: FileSystem;
  /** Ms since the epoch. */
  clock?: () => number;
  /** Asked before every write: whether the directory is still ours. */
  isOwner?: () => boolean;
  /** Each fsync: records it made durable, and how long it took. */
  onSync?: (records: number, durationMs: number) => void;
  /** Records that turned out to be damaged when they were read to be drained. */
  onDamage?: (report: DamageReport) => void;
}

export interface JournalStatus {
  /** Records that are not acknowledged. */
  depthRecords: number;
  /** Of all segments. */
  bytes: number;
  /** Of the oldest record that is not acknowledged, ms; 0 when there is none. */
  oldestAgeMs: number;
  full: boolean;
  /** Why it takes no records; null = it does. */
  failure: string | null;
}
