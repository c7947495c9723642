import { formatRoundedUsd } from '../amounts.js';
import type { Failure } from '../api.js';
import { Card } from '../components/Card.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { chooseTier, TIERS_USD, type TierChoice } from '../kiloPass.js';

/** The average of the last three months against the Kilo Pass tiers. */
export function KiloPassCard({
  averageUsd,
  failure,
}: {
  averageUsd: number | null;
  failure: Failure | null;
}) {
  return (
    <Card title="Average monthly usage" note="Personal, last three calendar months to today (UTC)">
      {averageUsd !== null ? (
        <Tiers averageUsd={averageUsd} choice={chooseTier(averageUsd)} />
      ) : failure !== null ? (
        <ErrorNotice failure={failure} what="The average is not available" />
      ) : (
        <Loading what="the average" />
      )}
    </Card>
  );
}

function Tiers({ averageUsd, choice }: { averageUsd: number; choice: TierChoice }) {
  return (
    <>
      <p className="figure">
        <data value={averageUsd} data-testid="average">
          {formatRoundedUsd(averageUsd)}
        </data>
        <span className="figure-unit">a month</span>
      </p>
      <p className="tier-verdict">{describeChoice(choice)}</p>
      <ul className="tiers">
        {TIERS_USD.map((tier) => {
          const isChosen = tier === choice.tierUsd;
          const share = Math.max(0, Math.min(1, averageUsd / tier));
          return (
            <li key={tier} className={isChosen ? 'tier chosen' : 'tier'}>
              <span className="tier-name">
                Kilo Pass ${tier}
                {isChosen && (
                  <span className="chip">{choice.hasUsage ? 'fits' : 'start here'}</span>
                )}
              </span>
              <progress
                className="tier-bar"
                max={1}
                value={share}
                aria-label={`Average as a part of $${tier}`}
              />
              <span className="tier-share">
                {averageUsd > tier
                  ? `${formatRoundedUsd(averageUsd - tier)} over`
                  : `${Math.floor(share * 100)}% of it`}
              </span>
            </li>
          );
        })}
      </ul>
    </>
  );
}

function describeChoice({ tierUsd, isAbove, hasUsage }: TierChoice): string {
  if (!hasUsage)
    return `No personal usage in the last three months: Kilo Pass $${tierUsd} to begin with.`;
  if (isAbove) {
    return `Above every tier: Kilo Pass $${tierUsd} covers the most of it, the rest is paid as used.`;
  }
  return `Kilo Pass $${tierUsd} is the smallest that covers it.`;
}
