import { useQuery } from '@tanstack/react-query';
import { type Failure, toFailure } from '../api.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { formatInstant } from '../days.js';
import { useSession } from '../session.js';
import { Steps } from '../start/GettingStarted.js';
import { BalanceCard } from './BalanceCard.js';
import { DailySpend } from './DailySpend.js';
import { KiloPassCard } from './KiloPassCard.js';
import { RecentRequests } from './RecentRequests.js';

/** Opened with three statements and the key's look-up: average, account, and the days of the chart. */
export function ProfileView({
  kiloUserId,
  isOwn,
  today,
}: {
  kiloUserId: string;
  isOwn: boolean;
  today: string;
}) {
  const { api, source } = useSession();
  const of = isOwn ? {} : { kiloUserId };
  const average = useQuery({
    queryKey: ['kiloPass', kiloUserId],
    queryFn: ({ signal }) => api.kiloPass.getAverageMonthlyUsageLast3Months.query(of, { signal }),
  });
  const account = useQuery({
    queryKey: ['profile.account', kiloUserId],
    queryFn: ({ signal }) => api.profile.account.query(of, { signal }),
  });

  const failure = account.error === null ? null : toFailure(account.error);
  if (failure !== null && account.data === undefined) {
    return (
      <ErrorNotice
        failure={explain(failure, kiloUserId)}
        what={`The profile of ${kiloUserId} cannot be shown`}
        onRetry={() => account.refetch()}
      />
    );
  }
  const isNew = account.data?.recent.length === 0 && account.data.balance.microdollars_used === 0;
  return (
    <>
      <div className="view-head">
        <div>
          <h1>Usage</h1>
          <p className="view-note">
            {kiloUserId} · days and times in UTC
            {source !== null &&
              ` · answered from ${source.mode === 'rollup' ? 'the rollup' : 'raw usage'} on the ${source.server}, as of ${formatInstant(source.asOf)}`}
          </p>
        </div>
      </div>
      {failure !== null && (
        <p className="notice warning" role="status">
          Not up to date: {failure.message}. What you see is from the last look.
        </p>
      )}
      <div className="profile-top">
        <KiloPassCard
          averageUsd={average.data?.averageMonthlyUsageUsd ?? null}
          failure={average.error === null ? null : toFailure(average.error)}
        />
        {account.data === undefined ? (
          <Loading what="the balance" />
        ) : (
          <BalanceCard balance={account.data.balance} />
        )}
      </div>
      {isNew && (
        <section className="card" aria-label="No usage yet">
          <h2>No usage yet</h2>
          <p className="card-note">Send the first event, and it is here at the next look.</p>
          <Steps userId={kiloUserId} />
        </section>
      )}
      <DailySpend
        kiloUserId={kiloUserId}
        of={of}
        today={today}
        organizations={account.data?.balance.organizations ?? []}
      />
      <RecentRequests account={account.data} />
    </>
  );
}

function explain(failure: Failure, kiloUserId: string): Failure {
  if (failure.code !== 'unknown_user') return failure;
  return { ...failure, message: `there is no user ${kiloUserId} in this ledger` };
}
