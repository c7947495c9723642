import { useQuery } from '@tanstack/react-query';
import { formatRoundedUsd } from '../amounts.js';
import { toFailure } from '../api.js';
import { Card } from '../components/Card.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { useSeen } from '../seen.js';
import { useSession } from '../session.js';
import { chooseTier, describeShare, type TierChoice } from './tiers.js';

const CHIPS: Record<TierChoice['fit'], string> = {
  fits: 'fits',
  start: 'start here',
  above: 'largest',
  none: '',
};

/** The average of the last three months against the tiers that the operator configured. */
export function KiloPassCard({
  kiloUserId,
  isOwn,
  tiersUsd,
}: {
  kiloUserId: string;
  isOwn: boolean;
  tiersUsd: readonly number[];
}) {
  const { api } = useSession();
  const [card, isSeen] = useSeen();
  const average = useQuery({
    queryKey: ['kiloPass', kiloUserId],
    queryFn: ({ signal }) =>
      api.kiloPass.getAverageMonthlyUsageLast3Months.query(isOwn ? {} : { kiloUserId }, { signal }),
    enabled: isSeen,
  });
  return (
    <div ref={card} className="card-place">
      <Card
        title="Average monthly usage"
        note="Personal, last three calendar months to today (UTC)"
      >
        {average.data !== undefined ? (
          <Tiers averageUsd={average.data.averageMonthlyUsageUsd} tiersUsd={tiersUsd} />
        ) : average.error !== null ? (
          <ErrorNotice failure={toFailure(average.error)} what="The average is not available" />
        ) : (
          isSeen && <Loading what="the average" />
        )}
      </Card>
    </div>
  );
}

function Tiers({ averageUsd, tiersUsd }: { averageUsd: number; tiersUsd: readonly number[] }) {
  const choice = chooseTier(averageUsd, tiersUsd);
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
        {tiersUsd.map((tier) => {
          const isChosen = tier === choice.tierUsd;
          return (
            <li key={tier} className={isChosen ? 'tier chosen' : 'tier'}>
              <span className="tier-name">
                Kilo Pass ${tier}
                {isChosen && <span className="chip">{CHIPS[choice.fit]}</span>}
              </span>
              <progress
                className="tier-bar"
                max={1}
                value={Math.max(0, Math.min(1, averageUsd / tier))}
                aria-label={`Average as a part of $${tier}`}
              />
              <span className="tier-share">
                {describeShare(averageUsd, tier, formatRoundedUsd)}
              </span>
            </li>
          );
        })}
      </ul>
    </>
  );
}

function describeChoice({ tierUsd, fit }: TierChoice): string {
  if (fit === 'none') return 'Refunds exceed usage: no tier is needed.';
  if (fit === 'start') {
    return `The average is $0.00, rounded to cents: Kilo Pass $${tierUsd} to begin with.`;
  }
  if (fit === 'above') {
    return `Above every tier: Kilo Pass $${tierUsd} covers the most of it, the rest is paid as used.`;
  }
  return `Kilo Pass $${tierUsd} is the smallest that covers it.`;
}
