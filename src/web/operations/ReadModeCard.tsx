import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { Button } from 'react-aria-components';
import { formatCount } from '../amounts.js';
import { type Failure, type Outputs, toFailure } from '../api.js';
import { AsOf } from '../components/AsOf.js';
import { Card } from '../components/Card.js';
import { Confirm } from '../components/Confirm.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { usePolled } from '../polling.js';
import { useSession } from '../session.js';

type Status = Outputs['operations']['readMode'];
type Mode = Status['stored'];

const EVERY_MS = 4_000;
const MODES: readonly { mode: Mode; what: string }[] = [
  { mode: 'raw', what: 'answers from raw usage' },
  { mode: 'shadow', what: 'answers from raw usage, compares with the rollup' },
  { mode: 'rollup', what: 'answers from the rollup' },
];

/** Where reads come from, what is unproven, and the switch. */
export function ReadModeCard() {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const [asked, setAsked] = useState<Mode | null>(null);
  const readMode = usePolled('operations.readMode', EVERY_MS, (signal) =>
    api.operations.readMode.query(undefined, { signal }),
  );
  const refresh = () => queryClient.invalidateQueries({ queryKey: ['operations.readMode'] });
  const change = useMutation({
    mutationFn: (mode: Mode) => api.operations.setReadMode.mutate({ mode }),
    onSettled: refresh,
  });
  const compare = useMutation({
    mutationFn: (users: number) => api.operations.compareReads.mutate({ users }),
    onSettled: refresh,
  });
  const failure = readMode.error === null ? null : toFailure(readMode.error);
  const status = readMode.data;
  return (
    <Card
      title="Read mode"
      note="Followed by every process within seconds"
      tools={
        <AsOf updatedAtMs={readMode.dataUpdatedAt} everyMs={EVERY_MS} failure={failure} onlyStale />
      }
    >
      {status === undefined ? (
        failure === null ? (
          <Loading what="the read mode" />
        ) : (
          <ErrorNotice failure={failure} what="The read mode is not available" />
        )
      ) : (
        <>
          <ul className="modes">
            {MODES.map(({ mode, what }) => (
              <li key={mode} className={mode === status.stored ? 'mode current' : 'mode'}>
                <div>
                  <strong>{mode}</strong>
                  {mode === status.stored && <span className="chip ok">in force</span>}
                  <span className="mode-what">{what}</span>
                </div>
                {mode !== status.stored && (
                  <Button
                    className="button small"
                    aria-label={`Switch to ${mode}`}
                    onPress={() => {
                      change.reset();
                      setAsked(mode);
                    }}
                  >
                    Switch
                  </Button>
                )}
              </li>
            ))}
          </ul>
          {status.effective !== status.stored && (
            <p className="notice warning">
              Answers come from {status.effective} for now: the proof has lapsed.
            </p>
          )}
          {status.reason !== null && <p className="card-note">Why: {status.reason}.</p>}
          <Gate
            gate={status.gate}
            isShadow={status.stored === 'shadow'}
            isComparing={compare.isPending}
            onCompare={() => compare.mutate(status.gate.shadow.required)}
          />
          {change.error !== null && <Refusal failure={toFailure(change.error)} />}
          {compare.error !== null && (
            <ErrorNotice failure={toFailure(compare.error)} what="The comparison failed" />
          )}
        </>
      )}
      <Confirm
        isOpen={asked !== null}
        title={`Switch reads to ${asked ?? ''}?`}
        action={`Switch to ${asked ?? ''}`}
        onConfirm={() => asked !== null && change.mutate(asked)}
        onClose={() => setAsked(null)}
      >
        <p>Every server of this ledger follows within seconds. Writes are not touched.</p>
        {asked === 'rollup' && status !== undefined && !status.gate.isOpen && (
          <>
            <p>
              <strong>It will be refused as things stand:</strong>
            </p>
            <Obstacles obstacles={status.gate.obstacles} />
          </>
        )}
      </Confirm>
    </Card>
  );
}

/** Why a switch was refused; the server's reasons one by one where it gives them. */
function Refusal({ failure }: { failure: Failure }) {
  const { obstacles } = failure.details;
  if (!Array.isArray(obstacles)) {
    return <ErrorNotice failure={failure} what="The mode was not switched" />;
  }
  return (
    <div className="notice danger refusal" role="alert" data-testid="refusal">
      <strong>The mode was not switched.</strong>
      <Obstacles obstacles={obstacles.map(String)} />
    </div>
  );
}

function Gate({
  gate,
  isShadow,
  isComparing,
  onCompare,
}: {
  gate: Status['gate'];
  isShadow: boolean;
  isComparing: boolean;
  onCompare(): void;
}) {
  return (
    <div className="gate">
      <h3 className="card-subhead">
        Gate to rollup{' '}
        <span className={gate.isOpen ? 'chip ok' : 'chip warning'}>
          {gate.isOpen ? 'open' : 'shut'}
        </span>
      </h3>
      {gate.isOpen ? (
        <p className="card-note">Every day of the three-month window is proven.</p>
      ) : (
        <div data-testid="obstacles">
          <Obstacles obstacles={gate.obstacles} />
        </div>
      )}
      {(!gate.isOpen || gate.shadow.comparisons > 0) && (
        <p className="card-note">
          {formatCount(gate.shadow.comparisons)} of {formatCount(gate.shadow.required)} shadow
          comparisons, {formatCount(gate.shadow.mismatches)} mismatches.
        </p>
      )}
      {isShadow && (
        <Button className="button small" isDisabled={isComparing} onPress={onCompare}>
          {isComparing ? 'Comparing…' : `Compare ${gate.shadow.required} users now`}
        </Button>
      )}
    </div>
  );
}

/** Commands in the server's sentences are marked with backticks. */
function Obstacles({ obstacles }: { obstacles: readonly string[] }) {
  return (
    <ul className="obstacles">
      {obstacles.map((obstacle) => (
        <li key={obstacle}>
          {obstacle
            .split('`')
            .map((part, index) =>
              index % 2 === 1 ? <code key={part}>{part}</code> : <span key={part}>{part}</span>,
            )}
        </li>
      ))}
    </ul>
  );
}
