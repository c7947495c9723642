export interface TierChoice {
  /** Null: none is needed. */
  tierUsd: number | null;
  /** `start`: the average is zero, rounded to cents; `above`: not even the largest covers it. */
  fit: 'fits' | 'start' | 'above' | 'none';
}

/**
 * The smallest tier that covers a monthly average in USD; the one in the middle where the average is
 * zero and says nothing; none where refunds exceed usage. `tiersUsd` ascends and is not empty.
 */
export function chooseTier(averageUsd: number, tiersUsd: readonly number[]): TierChoice {
  if (averageUsd < 0) return { tierUsd: null, fit: 'none' };
  if (averageUsd === 0) {
    return { tierUsd: tiersUsd[Math.floor((tiersUsd.length - 1) / 2)] ?? null, fit: 'start' };
  }
  const covering = tiersUsd.find((tier) => averageUsd <= tier);
  if (covering !== undefined) return { tierUsd: covering, fit: 'fits' };
  return { tierUsd: tiersUsd.at(-1) ?? null, fit: 'above' };
}

/** How much of a tier an average takes, in words. */
export function describeShare(
  averageUsd: number,
  tierUsd: number,
  format: (usd: number) => string,
): string {
  if (averageUsd > tierUsd) return `${format(averageUsd - tierUsd)} over`;
  if (averageUsd <= 0) return 'none of it';
  const percent = Math.floor((averageUsd / tierUsd) * 100);
  return percent === 0 ? 'less than 1% of it' : `${percent}% of it`;
}
