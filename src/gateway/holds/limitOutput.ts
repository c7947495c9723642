import { addMember, setMember } from '../processUsage/jsonMembers.js';
import type { RequestBounds } from './requestBounds.js';

/**
 * The body with its limit of output tokens set, every other byte as it is. What the client said is only
 * ever lowered. Returns the same buffer where nothing changes.
 */
export function limitOutput(
  body: Buffer,
  members: RequestBounds['limitMembers'],
  limit: number,
): Buffer {
  return members
    .filter(({ value }) => value === null || value > limit)
    .reduce(
      (bytes, { name, isGiven }) => (isGiven ? setMember : addMember)(bytes, name, limit),
      body,
    );
}
