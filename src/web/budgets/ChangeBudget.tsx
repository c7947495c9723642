import { type FormEvent, type ReactNode, useState } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { useNowMs } from '../clock.js';
import { ChoiceField, TextField } from '../components/FormField.js';
import { Unplaced } from '../components/Unplaced.js';
import { useFocusOnProblem } from '../components/useFocusOnProblem.js';
import { problemOf, typedUsd } from '../formValues.js';
import { instantAtMs, localTime, shownZone } from '../zones.js';
import {
  type Budget,
  type BudgetChangeInput,
  baseLimitOf,
  editableUsd,
  MODES,
  type Mode,
  modeOf,
} from './budget.js';
import { useBudgetChanges } from './useBudgetChanges.js';

const WEEK_MS = 7 * 86_400_000;

/** The limit and whether it refuses. */
export function ChangeLimit({ budget, onDone }: { budget: Budget; onDone(): void }) {
  const [limit, setLimit] = useState(() => editableUsd(baseLimitOf(budget)));
  const [mode, setMode] = useState<Mode>(modeOf(budget));
  return (
    <ChangeForm
      label="Change the budget"
      action="Save"
      failed="The budget is as it was"
      fields={['limit_usd', 'mode']}
      toChange={() => ({ id: budget.id, limit_usd: typedUsd(limit), mode })}
      onDone={onDone}
    >
      {(problem) => (
        <>
          <TextField
            label="Limit, $"
            kind="amount"
            isFirst
            problem={problem('limit_usd')}
            value={limit}
            onType={setLimit}
          />
          <ChoiceField
            label="When used up"
            problem={problem('mode')}
            value={mode}
            choices={MODES}
            onChoose={setMode}
          />
        </>
      )}
    </ChangeForm>
  );
}

/** More until an instant, then as before by itself. */
export function RaiseBudget({ budget, onDone }: { budget: Budget; onDone(): void }) {
  const nowMs = useNowMs();
  const zone = shownZone(budget.time_zone);
  const [amount, setAmount] = useState('');
  // What most are asked for: until this window is over.
  const [until, setUntil] = useState(() => {
    const endMs = budget.resets_at === null ? nowMs + WEEK_MS : Date.parse(budget.resets_at);
    return localTime(endMs, zone).slice(0, 16);
  });

  function toChange(): BudgetChangeInput {
    const endMs = instantAtMs(until, zone);
    return {
      id: budget.id,
      raise_usd: typedUsd(amount),
      raise_until: Number.isNaN(endMs) ? until : new Date(endMs).toISOString(),
    };
  }

  return (
    <ChangeForm
      label="Raise the budget"
      action="Raise"
      failed="The budget was not raised"
      fields={['raise_usd', 'raise_until']}
      toChange={toChange}
      onDone={onDone}
    >
      {(problem) => (
        <>
          <TextField
            label="Add, $"
            kind="amount"
            placeholder="5.00"
            isFirst
            problem={problem('raise_usd')}
            value={amount}
            onType={setAmount}
          />
          <TextField
            label={`Until (${zone})`}
            kind="datetime-local"
            problem={problem('raise_until')}
            value={until}
            onType={setUntil}
          />
        </>
      )}
    </ChangeForm>
  );
}

/** In the place of the buttons. Escape and Cancel leave the budget as it was. */
function ChangeForm({
  label,
  action,
  failed,
  fields,
  toChange,
  onDone,
  children,
}: {
  label: string;
  action: string;
  /** What a refusal comes to. */
  failed: string;
  fields: readonly string[];
  toChange(): BudgetChangeInput;
  onDone(): void;
  children(problem: (field: string) => string | null): ReactNode;
}) {
  const { change } = useBudgetChanges();
  const failure = change.error === null ? null : toFailure(change.error);
  const form = useFocusOnProblem(change.error);

  function submit(event: FormEvent) {
    event.preventDefault();
    change.mutate(toChange(), { onSuccess: onDone });
  }

  return (
    <form
      ref={form}
      className="budget-form"
      onSubmit={submit}
      aria-label={label}
      onKeyDown={(event) => {
        if (event.key === 'Escape') onDone();
      }}
    >
      {children((field) => problemOf(failure, field))}
      <div className="row-actions">
        <Button className="button small primary" type="submit" isDisabled={change.isPending}>
          {action}
        </Button>
        <Button className="button small" onPress={onDone}>
          Cancel
        </Button>
      </div>
      <Unplaced failure={failure} fields={fields} what={failed} />
    </form>
  );
}
