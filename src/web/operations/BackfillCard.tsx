import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { Button, ProgressBar } from 'react-aria-components';
import { formatCompact, formatCount } from '../amounts.js';
import { type Outputs, toFailure } from '../api.js';
import { AsOf } from '../components/AsOf.js';
import { Card } from '../components/Card.js';
import { Confirm } from '../components/Confirm.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { formatInstant, formatSpan } from '../days.js';
import { usePolled, useRefreshWhen } from '../polling.js';
import { sentence } from '../sentence.js';
import { useSession } from '../session.js';

type Backfill = Outputs['operations']['backfill'];

const EVERY_MS = 4_000;
const BUSY_EVERY_MS = 1_000;
/** What a backfill changes. */
const CHANGED = ['operations.coverage', 'operations.readMode'] as const;

/** Builds the rollup for history: progress, pause, resume, start. */
export function BackfillCard() {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const [isAsking, setAsking] = useState(false);
  const backfill = usePolled(
    'operations.backfill',
    (data: Backfill | undefined) => (data?.isRunning ? BUSY_EVERY_MS : EVERY_MS),
    (signal) => api.operations.backfill.query(undefined, { signal }),
  );
  const onSettled = () =>
    Promise.all(
      ['operations.backfill', 'operations.coverage'].map((name) =>
        queryClient.invalidateQueries({ queryKey: [name] }),
      ),
    );
  const pause = useMutation({
    mutationFn: (isPaused: boolean) =>
      isPaused
        ? api.operations.pauseBackfill.mutate(undefined)
        : api.operations.resumeBackfill.mutate(undefined),
    onSettled,
  });
  const start = useMutation({
    mutationFn: () => api.operations.startBackfill.mutate(undefined),
    onSettled,
  });
  useRefreshWhen(backfill.data?.finishedAt ?? null, CHANGED);
  const failure = backfill.error === null ? null : toFailure(backfill.error);
  const state = backfill.data;
  const actionError = pause.error ?? start.error;
  return (
    <Card
      title="Backfill"
      note="Builds the daily rollup from raw usage, beside live writers; microdollar backfill also those of reports"
      tools={
        <AsOf updatedAtMs={backfill.dataUpdatedAt} everyMs={EVERY_MS} failure={failure} onlyStale />
      }
    >
      {state === undefined ? (
        failure === null ? (
          <Loading what="the backfill" />
        ) : (
          <ErrorNotice failure={failure} what="The backfill is not known" />
        )
      ) : (
        <>
          <Progress state={state} />
          <div className="actions">
            {state.isPaused ? (
              <Button className="button primary" onPress={() => pause.mutate(false)}>
                Resume
              </Button>
            ) : (
              <Button
                className="button"
                isDisabled={!state.isRunning}
                onPress={() => pause.mutate(true)}
              >
                Pause
              </Button>
            )}
            <Button
              className="button"
              isDisabled={state.isRunning || start.isPending}
              onPress={() => setAsking(true)}
            >
              Start a backfill
            </Button>
          </div>
          {actionError !== null && (
            <ErrorNotice failure={toFailure(actionError)} what="That did not work" />
          )}
          {state.job.error !== null && (
            <p className="notice danger">
              The last backfill ended: {sentence(state.job.error.message)}
            </p>
          )}
        </>
      )}
      <Confirm
        isOpen={isAsking}
        title="Start a backfill?"
        action="Start"
        onConfirm={() => start.mutate()}
        onClose={() => setAsking(false)}
      >
        <Plan />
        <p>
          It runs in this server in short transactions, gives way to live writers, and can be paused
          at any time. Running it again changes nothing that is right.
        </p>
      </Confirm>
    </Card>
  );
}

function Progress({ state }: { state: Backfill }) {
  const days = state.days.unbuilt + state.days.building;
  const done = state.days.built + state.days.verified + state.days.archived;
  const all = days + done;
  const share = all === 0 ? 0 : (done / all) * 100;
  return (
    <div data-testid="backfill-state" data-state={stateOf(state)}>
      <p className="backfill-state">
        <span className={`chip ${state.isPaused ? 'warning' : state.isRunning ? 'ok' : ''}`}>
          {stateOf(state)}
        </span>{' '}
        {describe(state)}
      </p>
      <ProgressBar className="progress" value={share} aria-label="Days built">
        {({ percentage, valueText }) => (
          <>
            <div className="progress-head">
              <span>
                {formatCount(done)} of {formatCount(all)} days built
              </span>
              <span>{all === 0 ? 'no days known yet' : valueText}</span>
            </div>
            <svg className="progress-bar" viewBox="0 0 100 2" preserveAspectRatio="none">
              <title>Days built</title>
              <rect className="progress-fill" width={percentage ?? 0} height="2" />
            </svg>
          </>
        )}
      </ProgressBar>
      <dl className="pairs">
        <div>
          <dt>Rows</dt>
          <dd>
            {state.startedAt === null
              ? '–'
              : `${formatCount(state.rowsDone)} of about ${formatCompact(state.rowsExpected)}`}
          </dd>
        </div>
        <div>
          <dt>Rate</dt>
          <dd>
            {state.rowsPerSecond === null ? '–' : `${formatCompact(state.rowsPerSecond)} rows/s`}
          </dd>
        </div>
        <div>
          <dt>Time left</dt>
          <dd>{state.etaSeconds === null ? '–' : `about ${formatSpan(state.etaSeconds)}`}</dd>
        </div>
      </dl>
    </div>
  );
}

function stateOf(state: Backfill): string {
  if (state.isPaused) return 'paused';
  if (state.isRunning) return 'running';
  if (state.startedAt === null) return 'never run';
  return state.finishedAt === null ? 'interrupted' : 'finished';
}

function describe(state: Backfill): string {
  if (state.isPaused) {
    const since = state.pausedAt === null ? '' : ` since ${formatInstant(state.pausedAt)} UTC`;
    const who = state.isRunning ? 'Workers wait' : 'No worker is running';
    return `${who}${since}; it stays so until somebody resumes.`;
  }
  if (state.isRunning) return state.job.notice ?? `${state.claimedDays} days in work.`;
  if (state.startedAt === null) {
    return state.days.unbuilt + state.days.building === 0
      ? 'Nothing to build.'
      : 'Usage from before the ledger, or dated back, is to be built.';
  }
  if (state.finishedAt !== null) return `at ${formatInstant(state.finishedAt)} UTC.`;
  return 'No worker has been heard of; start it to go on where it stopped.';
}

function Plan() {
  const { api } = useSession();
  const plan = useQuery({
    queryKey: ['operations.planBackfill'],
    queryFn: ({ signal }) => api.operations.planBackfill.query(undefined, { signal }),
    staleTime: 0,
  });
  if (plan.error !== null) {
    return <ErrorNotice failure={toFailure(plan.error)} what="It cannot be planned" />;
  }
  if (plan.data === undefined) return <Loading what="the plan" />;
  return (
    <p>
      {formatCount(plan.data.periods)} days to build from {plan.data.from} to {plan.data.until}{' '}
      (UTC); about {formatCompact(plan.data.rowsExpected)} raw rows in the range.
    </p>
  );
}
