import type { JournalRecord } from '../../journal/frame.js';
import type { UsageEvent } from '../../record/types.js';
import type { FollowedResponse, Intent } from './types.js';

/** A usage event whose identity and time are fixed, so that a replay says the same (I3). */
export type DatedUsage = UsageEvent & { id: string; created_at: string };

/** What the journal holds, as JSON. `owner`: the process life that let the request through. */
export type DurableRecord =
  | { type: 'intent'; owner: string; intent: Intent }
  | { type: 'usage'; owner: string; event: DatedUsage }
  | { type: 'abandon'; id: string }
  | { type: 'follow'; owner: string; response: FollowedResponse };

const KINDS = { intent: 1, usage: 2, abandon: 3, follow: 4 } as const;
const TYPE_BY_KIND = new Map(Object.entries(KINDS).map(([type, kind]) => [kind as number, type]));

export function encodeRecord(record: DurableRecord): { kind: number; payload: Buffer } {
  const { type, ...content } = record;
  return { kind: KINDS[type], payload: Buffer.from(JSON.stringify(content)) };
}

/** Null: its checksum is right, yet this version does not know what it is. */
export function decodeRecord(record: JournalRecord): DurableRecord | null {
  const type = TYPE_BY_KIND.get(record.kind);
  try {
    const content = JSON.parse(record.payload.toString()) as object;
    return type === undefined ? null : ({ type, ...content } as DurableRecord);
  } catch {
    return null;
  }
}
