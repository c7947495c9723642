/** Kilo Pass tiers, USD a month. */
export const TIERS_USD = [19, 49, 199] as const;
export type TierUsd = (typeof TIERS_USD)[number];

export interface TierChoice {
  tierUsd: TierUsd;
  /** Even the largest tier does not cover the average. */
  isAbove: boolean;
  hasUsage: boolean;
}

/** The smallest tier that covers the average; 49 when there is no usage to go by. */
export function chooseTier(averageMonthlyUsageUsd: number): TierChoice {
  if (averageMonthlyUsageUsd === 0) return { tierUsd: 49, isAbove: false, hasUsage: false };
  const covering = TIERS_USD.find((tier) => averageMonthlyUsageUsd <= tier);
  return { tierUsd: covering ?? 199, isAbove: covering === undefined, hasUsage: true };
}
