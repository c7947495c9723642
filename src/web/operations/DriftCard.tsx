import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef, useState } from 'react';
import { Button } from 'react-aria-components';
import { formatCount, formatExact, formatPlural } from '../amounts.js';
import { type Outputs, toFailure } from '../api.js';
import { AsOf } from '../components/AsOf.js';
import { Card } from '../components/Card.js';
import { Confirm } from '../components/Confirm.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { formatDay, formatInstant, formatRange, monthsBefore } from '../days.js';
import { usePolled, useRefreshWhen } from '../polling.js';
import { sentence } from '../sentence.js';
import { useSession } from '../session.js';
import { DriftTable } from './DriftTable.js';

type Drift = Outputs['operations']['drift'];
type Range = { from: string; until: string };

const EVERY_MS = 4_000;
const BUSY_EVERY_MS = 700;
/** What a verification or a repair changes. */
const CHANGED = ['operations.drift', 'operations.coverage', 'operations.readMode'] as const;

/**
 * Reported totals against raw usage: verify a range, see what is wrong, repair it. `day`: the one that
 * was chosen elsewhere; it is brought here, and ready to be verified.
 */
export function DriftCard({ day }: { day: string | null }) {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const today = new Date().toISOString().slice(0, 10);
  const [range, setRange] = useState<Range>(
    day === null ? { from: monthsBefore(today, 3), until: today } : { from: day, until: day },
  );
  const verifyButton = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (day === null) return;
    verifyButton.current?.scrollIntoView({ block: 'center' });
    verifyButton.current?.focus();
  }, [day]);
  const [repairing, setRepairing] = useState<Range | null>(null);
  const drift = usePolled(
    'operations.drift',
    (data: Drift | undefined) => (data?.job?.isRunning ? BUSY_EVERY_MS : EVERY_MS),
    (signal) => api.operations.drift.query(undefined, { signal }),
  );
  const onSettled = () => queryClient.invalidateQueries({ queryKey: ['operations.drift'] });
  const verify = useMutation({
    mutationFn: (of: Range) => api.operations.verify.mutate(of),
    onSettled,
  });
  const repair = useMutation({
    mutationFn: (of: Range) => api.operations.repair.mutate(of),
    onSettled,
  });
  useRefreshWhen(drift.data?.job?.finishedAt ?? null, CHANGED);
  const failure = drift.error === null ? null : toFailure(drift.error);
  const actionError = verify.error ?? repair.error;
  const state = drift.data;
  const isBusy = state?.job?.isRunning === true || verify.isPending || repair.isPending;
  const wrong = state === undefined ? null : wrongRange(state);
  return (
    <Card
      title="Drift"
      note="Daily totals against raw usage, in both directions, day by day; microdollar verify also checks those of reports"
      tools={
        <AsOf updatedAtMs={drift.dataUpdatedAt} everyMs={EVERY_MS} failure={failure} onlyStale />
      }
    >
      <div className="actions">
        <div className="range-days">
          <label>
            From
            <input
              type="date"
              value={range.from}
              max={range.until}
              onChange={(event) => setRange({ ...range, from: event.target.value })}
            />
          </label>
          <label>
            to
            <input
              type="date"
              value={range.until}
              min={range.from}
              max={today}
              onChange={(event) => setRange({ ...range, until: event.target.value })}
            />
          </label>
        </div>
        <Button
          ref={verifyButton}
          className="button"
          isDisabled={isBusy || range.from === '' || range.until === ''}
          onPress={() => verify.mutate(range)}
        >
          Verify
        </Button>
        <Button
          className="button danger"
          isDisabled={isBusy || wrong === null}
          onPress={() => setRepairing(wrong)}
        >
          Repair
        </Button>
      </div>
      {actionError !== null && (
        <ErrorNotice failure={toFailure(actionError)} what="That did not work" />
      )}
      {state === undefined ? (
        failure === null ? (
          <Loading what="the findings" />
        ) : (
          <ErrorNotice failure={failure} what="The findings are not available" />
        )
      ) : (
        <Findings
          state={state}
          onVerify={isBusy ? null : (of) => verify.mutate({ from: of, until: of })}
        />
      )}
      <Confirm
        isOpen={repairing !== null}
        title="Repair what was found?"
        action="Repair"
        isDanger
        onConfirm={() => repairing !== null && repair.mutate(repairing)}
        onClose={() => setRepairing(null)}
      >
        <p>
          Totals from {repairing?.from} to {repairing?.until} (UTC) that differ from raw usage are
          set to it, each under its row lock. Every correction is recorded. Raw usage is not
          touched.
        </p>
      </Confirm>
    </Card>
  );
}

/** From the first day that is known to be wrong to the last. */
function wrongRange(state: Drift): Range | null {
  const found = state.job?.kind === 'verify' ? (state.job.result?.findings ?? []) : [];
  const days = [...state.days.map(({ day }) => day), ...found.map(({ period }) => period)].sort();
  const from = days[0];
  const until = days.at(-1);
  return from === undefined || until === undefined ? null : { from, until };
}

function Findings({
  state,
  onVerify,
}: {
  state: Drift;
  /** Null: something runs. */
  onVerify: ((day: string) => void) | null;
}) {
  const { job } = state;
  return (
    <>
      {job !== null && <Job job={job} />}
      {job?.kind === 'verify' && job.result !== null && job.result.findings.length > 0 ? (
        <DriftTable findings={job.result.findings} />
      ) : state.days.length > 0 ? (
        <ul className="drift-days" data-testid="drift-days">
          {state.days.map(({ day, driftKeys, driftMicrodollars }) => (
            <li key={day}>
              {formatDay(day)}: {formatPlural(driftKeys, 'total')} wrong by{' '}
              {formatExact(driftMicrodollars)} in all.{' '}
              <Button
                className="link-button"
                isDisabled={onVerify === null}
                onPress={() => onVerify?.(day)}
              >
                Verify the day
              </Button>{' '}
              to see which.
            </li>
          ))}
        </ul>
      ) : (
        <Empty title="No drift is known">
          <p>Every day that was checked equals raw usage to the microdollar.</p>
        </Empty>
      )}
      {state.repairs.length > 0 && (
        <details className="stretches">
          <summary>Last corrections</summary>
          <ul>
            {state.repairs.map((each) => (
              <li key={each.id}>
                {formatInstant(each.repairedAt)} UTC:{' '}
                <bdi>{each.kiloUserId ?? each.organizationId}</bdi>
                {each.day === null ? '' : ` on ${formatDay(each.day)}`} from{' '}
                {formatExact(each.beforeMicrodollars)} to {formatExact(each.afterMicrodollars)} (
                {each.cause})
              </li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}

function Job({ job }: { job: NonNullable<Drift['job']> }) {
  const of = formatRange(job);
  if (job.error !== null) {
    return (
      <p className="notice danger" role="alert">
        The {job.kind} of {of} ended: {sentence(job.error.message)}
      </p>
    );
  }
  if (job.isRunning) {
    return (
      <p className="notice" role="status">
        {job.kind === 'verify' ? 'Verifying' : 'Repairing'} {of}: {formatCount(job.periodsDone)} of{' '}
        {formatCount(job.periodsTotal)} days. {job.notice}
      </p>
    );
  }
  const keys = job.result?.driftKeys ?? 0;
  const amount = formatExact(job.result?.driftMicrodollars ?? 0);
  if (job.kind === 'verify') {
    return (
      <p
        className={keys === 0 ? 'notice' : 'notice warning'}
        role="status"
        data-testid="proof"
        data-run={job.startedAt}
      >
        Verified {of}: {formatCount(job.result?.rows ?? 0)} raw rows,{' '}
        {keys === 0 ? 'no drift.' : `${formatPlural(keys, 'total')} wrong by ${amount} in all.`}
      </p>
    );
  }
  return (
    <p
      className={job.leftKeys === 0 ? 'notice' : 'notice warning'}
      role="status"
      data-testid="proof"
      data-run={job.startedAt}
    >
      Repaired {of}: {formatPlural(job.repaired ?? 0, 'total')} corrected by {amount} in all,{' '}
      {job.leftKeys === 0
        ? 'nothing left.'
        : `${formatCount(job.leftKeys ?? 0)} left, of which other sessions hold ${formatCount(job.locked ?? 0)}; repair again.`}
    </p>
  );
}
