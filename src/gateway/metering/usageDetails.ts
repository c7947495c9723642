import type { UsageDetails } from '../../record/types.js';

const MAX_DOUBTS = 16;
const MAX_DOUBT_LENGTH = 80;

/** `usage_details`; null when there is nothing to say. */
export function toUsageDetails(details: {
  doubts: readonly string[];
  statedAt: Date | null;
  /** What a price depends on, where there was none. */
  basis: UsageDetails | null;
}): UsageDetails | null {
  const { doubts, statedAt, basis } = details;
  const said = {
    ...(doubts.length === 0 ? {} : { doubts: listDoubts(doubts) }),
    ...(statedAt === null ? {} : { stated_created_at: statedAt.toISOString() }),
    ...(basis === null ? {} : { price: basis }),
  };
  return Object.keys(said).length === 0 ? null : said;
}

function listDoubts(doubts: readonly string[]): string[] {
  const plain = (doubt: string) => doubt.slice(0, MAX_DOUBT_LENGTH).replace(/[^ -!#-[\]-~]/g, '?');
  return [...new Set(doubts.map(plain))].slice(0, MAX_DOUBTS);
}
