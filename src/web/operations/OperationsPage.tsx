import { useSearchParams } from 'react-router';
import { AlertsCard } from '../alerts/AlertsCard.js';
import { toFailure } from '../api.js';
import { AllBudgetsCard } from '../budgets/AllBudgetsCard.js';
import { AsOf } from '../components/AsOf.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { isDay } from '../days.js';
import { usePolled } from '../polling.js';
import { type Identity, useSession } from '../session.js';
import { useTitle } from '../title.js';
import { BackfillCard } from './BackfillCard.js';
import { CoverageCard } from './CoverageCard.js';
import { DriftCard } from './DriftCard.js';
import { LiveCharts } from './LiveCharts.js';
import { LiveTiles } from './LiveTiles.js';
import { ReadModeCard } from './ReadModeCard.js';
import { UnpricedCard } from './UnpricedCard.js';

const LIVE_EVERY_MS = 2_000;

/** The operator's console. Every part polls by itself and says how old it is. */
export default function OperationsPage({ identity }: { identity: Identity }) {
  useTitle('Operations');
  if (!identity.scopes.includes('admin')) {
    return (
      <Empty title="This key may not see operations">
        <p>It needs the scope admin. Sign in with the admin key.</p>
      </Empty>
    );
  }
  return <Console />;
}

function Console() {
  const { api } = useSession();
  const [search, setSearch] = useSearchParams();
  const asked = search.get('day');
  const day = asked !== null && isDay(asked) ? asked : null;
  const live = usePolled('operations.live', LIVE_EVERY_MS, (signal) =>
    api.operations.live.query(undefined, { signal }),
  );
  const failure = live.error === null ? null : toFailure(live.error);
  return (
    <>
      <div className="view-head">
        <div>
          <h1>Operations</h1>
          <p className="view-note">
            {live.data
              ? `microdollar ${live.data.version} on PostgreSQL ${live.data.database.serverVersion ?? '(not reachable)'} · days and times in UTC`
              : 'Days and times in UTC'}
          </p>
        </div>
        <AsOf updatedAtMs={live.dataUpdatedAt} everyMs={LIVE_EVERY_MS} failure={failure} />
      </div>
      {live.data?.database.isReachable === false && (
        <p className="notice danger" role="alert">
          The database does not answer: {live.data.database.reason}.
        </p>
      )}
      {live.data !== undefined ? (
        <LiveTiles live={live.data} />
      ) : failure !== null ? (
        <ErrorNotice
          failure={failure}
          what="The state of the server is not available"
          onRetry={() => live.refetch()}
        />
      ) : (
        <Loading what="the state of the server" />
      )}
      <div className="operations-pair">
        <ReadModeCard />
        <BackfillCard />
      </div>
      <CoverageCard onVerify={(day) => setSearch({ day }, { preventScrollReset: true })} />
      {live.data !== undefined && <LiveCharts live={live.data} />}
      <DriftCard key={day} day={day} />
      <UnpricedCard />
      <AllBudgetsCard />
      <AlertsCard payer={null} names={null} />
    </>
  );
}
