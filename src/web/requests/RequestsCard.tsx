import { useQuery } from '@tanstack/react-query';
import { useMemo } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { useNowMs } from '../clock.js';
import { Card } from '../components/Card.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { formatInstant, shiftDays } from '../days.js';
import { useSeen } from '../seen.js';
import { useSession } from '../session.js';
import { createNameOf } from '../usage/names.js';
import { boundsOf, describePeriod } from '../usage/periods.js';
import { rangeProblem } from '../usage/ranges.js';
import { type Organization, scopeName } from '../usage/scopes.js';
import { grainOf, rangeOf, toScope, type UsageState } from '../usage/usageState.js';
import { dayIn, startOfDayMs } from '../zones.js';
import { RequestDetail } from './RequestDetail.js';
import { RequestFilters } from './RequestFilters.js';
import { RequestTable } from './RequestTable.js';
import { costProblem, type RequestState, readAmount, useRequestState } from './requestState.js';

/** The requests behind the report: its scope, key, member and range, or the period that is chosen. */
export function RequestsCard({
  state,
  kiloUserId,
  organizations,
  keys,
}: {
  state: UsageState;
  kiloUserId: string;
  organizations: readonly Organization[];
  /** Names of keys by id. */
  keys: ReadonlyMap<string, string>;
}) {
  const { api } = useSession();
  const nowMs = useNowMs();
  const [filters, change] = useRequestState();
  const [card, isSeen] = useSeen();
  const today = dayIn(nowMs, state.zone);
  const range = rangeOf(state, today);
  const isAskable = rangeProblem(range) === null;
  const period = isAskable ? periodOfState(state, range) : null;
  const isOwner = organizations.find(({ id }) => id === state.scope)?.role === 'owner';
  const min = readAmount(filters.min);
  const max = readAmount(filters.max);
  const problem = costProblem(min, max);
  const input = {
    ...toScope(state, kiloUserId, isOwner),
    api_key_id: state.key ?? filters.key,
    ...(period === null ? {} : toInstants(period)),
    model: filters.model || null,
    status: filters.status,
    min_cost: min ?? null,
    max_cost: max ?? null,
    cursor: filters.after,
  };
  const nameOf = useMemo(() => createNameOf(keys), [keys]);
  const page = useQuery({
    queryKey: ['usage.requests', input],
    queryFn: ({ signal }) => api.usage.requests.query(input, { signal }),
    enabled: isSeen && isAskable && problem === null,
  });
  const when =
    state.at === null || period === null
      ? 'of the range above'
      : `of ${describePeriod(state.at, grainOf(state, range))}`;
  return (
    <div ref={card}>
      <Card
        anchor="requests"
        title="Requests"
        note={
          <>
            Newest first, {when} · {state.zone} · <bdi>{scopeName(state.scope, organizations)}</bdi>
          </>
        }
      >
        <RequestFilters
          filters={filters}
          keys={keys}
          viewKey={state.key}
          isAmount={{ min: min !== undefined, max: max !== undefined }}
          problem={problem}
          onChange={change}
        />
        {page.error !== null ? (
          <ErrorNotice
            failure={toFailure(page.error)}
            what="Requests are not available"
            onRetry={() => page.refetch()}
          />
        ) : page.data === undefined ? (
          isSeen && page.isFetching && <Loading what="requests" />
        ) : (
          <>
            {page.data.requests.length === 0 ? (
              <Empty title={page.data.next === null ? 'No such requests' : 'None so far'} />
            ) : (
              <RequestTable
                requests={page.data.requests}
                zone={state.zone}
                organizations={organizations}
                nameOf={nameOf}
                withUser={isOwner && state.member === null}
                onOpen={(id) => change({ open: id })}
              />
            )}
            <Pages
              filters={filters}
              next={page.data.next}
              lookedUntil={page.data.lookedUntil}
              onChange={change}
            />
            {page.data.archivedBefore !== null && (
              <p className="card-note">
                Requests before {formatInstant(page.data.archivedBefore)} UTC are archived: they
                count above, and are listed in the archive files alone.
              </p>
            )}
          </>
        )}
        <RequestDetail
          id={filters.open}
          zone={state.zone}
          nameOf={nameOf}
          onClose={() => change({ open: null })}
        />
      </Card>
    </div>
  );
}

function Pages({
  filters,
  next,
  lookedUntil,
  onChange,
}: {
  filters: RequestState;
  next: string | null;
  lookedUntil: string | null;
  onChange(change: Partial<RequestState>): void;
}) {
  if (next === null && filters.after === null) return null;
  return (
    <div className="actions">
      {filters.after !== null && (
        <Button className="button small" onPress={() => onChange({ after: null })}>
          Newest
        </Button>
      )}
      {next !== null && (
        <Button className="button small" onPress={() => onChange({ after: next })}>
          {lookedUntil === null ? 'Older' : 'Look further back'}
        </Button>
      )}
      {lookedUntil !== null && (
        <span className="muted">Looked back to {formatInstant(lookedUntil)} UTC so far.</span>
      )}
    </div>
  );
}

/** The chosen period, else the range; ms. */
function periodOfState(state: UsageState, range: { from: string; until: string }) {
  const grain = grainOf(state, range);
  if (state.at !== null && isStart(state.at, grain)) {
    return boundsOf(state.at, grain, state.zone, range);
  }
  return {
    fromMs: startOfDayMs(range.from, state.zone),
    untilMs: startOfDayMs(shiftDays(range.until, 1), state.zone),
  };
}

function isStart(at: string, grain: string): boolean {
  return (grain === 'hour') === at.includes('T') && !Number.isNaN(Date.parse(at));
}

function toInstants({ fromMs, untilMs }: { fromMs: number; untilMs: number }) {
  return { from: new Date(fromMs).toISOString(), until: new Date(untilMs).toISOString() };
}
