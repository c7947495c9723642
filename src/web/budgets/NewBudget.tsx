import { type FormEvent, useState } from 'react';
import { Button } from 'react-aria-components';
import { formatAmount } from '../amounts.js';
import { toFailure } from '../api.js';
import { ChoiceField, TextField } from '../components/FormField.js';
import { Unplaced } from '../components/Unplaced.js';
import { useFocusOnProblem } from '../components/useFocusOnProblem.js';
import { problemOf, typedUsd } from '../formValues.js';
import { localZone } from '../zones.js';
import {
  type Budget,
  MODES,
  type Mode,
  modeOf,
  PER,
  type Setter,
  WINDOWS,
  type Window,
} from './budget.js';
import { findSame, type SubjectChoices, toSubject } from './subjects.js';
import { useBudgetChanges } from './useBudgetChanges.js';

const PAYERS = { kilo_user_id: 'Paid by user', organization_id: 'Organization id' } as const;
const FIELDS = ['id', 'limit_usd', 'window', 'time_zone', 'mode', ...Object.keys(PAYERS)];
const NOTHING = { id: '', kilo_user_id: '', organization_id: '' };

/** Where not all budgets are known, what is left alone may be of one that is there. */
const AS_IT_IS = { id: '', text: 'as it is, or refuse (hard)' } as const;

/**
 * What is limited, to how much, in which time. The same again changes its limit; zone and mode are
 * those that it has, and are sent only where somebody chose them.
 */
export function NewBudget({
  subjects,
  known,
  isPartOfAll = false,
  setter,
  onSet,
  onClose,
}: {
  subjects: SubjectChoices;
  /** Those that are shown. */
  known: readonly Budget[];
  /** There may be others. */
  isPartOfAll?: boolean;
  /** As whom the budget will be set. */
  setter: Setter;
  onSet(budget: Budget): void;
  onClose(): void;
}) {
  const { set } = useBudgetChanges();
  const failure = set.error === null ? null : toFailure(set.error);
  const form = useFocusOnProblem(set.error);
  const [chosen, setChosen] = useState(subjects[0].scope);
  const [typed, setTyped] = useState(NOTHING);
  const [limit, setLimit] = useState('');
  const [window, setWindow] = useState<Window>('month');
  const [zone, setZone] = useState<string | null>(null);
  const [mode, setMode] = useState<Mode | null>(null);
  const subject = subjects.find(({ scope }) => scope === chosen) ?? subjects[0];
  const { id: named } = subject;
  const id = typed.id || ('options' in named ? (named.options?.[0]?.id ?? '') : '');
  const problem = (field: string) => problemOf(failure, field);
  const wanted = { ...toSubject(subject, { ...typed, id }), window };
  const same = findSame(known, wanted, setter);
  const modeNow = mode ?? (same === undefined ? (isPartOfAll ? '' : 'hard') : modeOf(same));

  function choose(scope: string) {
    setChosen(scope);
    setTyped(NOTHING);
    set.reset();
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    set.mutate(
      { ...wanted, limit_usd: typedUsd(limit), time_zone: zone?.trim(), mode },
      { onSuccess: onSet },
    );
  }

  const ofId = { problem: problem('id'), value: id };
  const typeId = (text: string) => setTyped({ ...typed, id: text });
  return (
    <form ref={form} className="budget-form" onSubmit={submit} aria-label="New budget">
      <ChoiceField
        label="Limits"
        isFirst
        problem={'given' in named ? problem('id') : null}
        value={subject.scope}
        choices={subjects.map(({ scope, text }) => ({ id: scope, text }))}
        onChoose={choose}
      />
      {'label' in named &&
        (named.options === undefined ? (
          <TextField label={named.label} {...ofId} onType={typeId} />
        ) : (
          <ChoiceField label={named.label} {...ofId} choices={named.options} onChoose={typeId} />
        ))}
      {subject.asked.map((payer, index) => (
        <TextField
          key={payer}
          label={index === 0 ? PAYERS[payer] : `or ${PAYERS[payer].toLowerCase()}`}
          problem={problem(payer)}
          value={typed[payer]}
          onType={(text) => setTyped({ ...typed, [payer]: text })}
        />
      ))}
      <TextField
        label="Limit, $"
        kind="amount"
        placeholder="20.00"
        problem={problem('limit_usd')}
        value={limit}
        onType={setLimit}
      />
      <ChoiceField
        label="Per"
        problem={problem('window')}
        value={window}
        choices={WINDOWS}
        onChoose={setWindow}
      />
      {window !== 'total' && (
        <TextField
          label="Of time zone"
          problem={problem('time_zone')}
          placeholder={isPartOfAll ? 'as it is, or UTC' : 'UTC'}
          value={zone ?? same?.time_zone ?? (isPartOfAll ? '' : 'UTC')}
          suggested={[...new Set(['UTC', localZone(), ...Intl.supportedValuesOf('timeZone')])]}
          onType={setZone}
        />
      )}
      <ChoiceField
        label="When used up"
        problem={problem('mode')}
        value={modeNow}
        choices={modeNow === '' ? [AS_IT_IS, ...MODES] : MODES}
        onChoose={(chosenMode) => setMode(chosenMode === '' ? null : chosenMode)}
      />
      {same !== undefined && (
        <p className="card-note">
          It is set already, {formatAmount(same.limit_microdollars)} {PER[window]}: this changes it.
        </p>
      )}
      <div className="row-actions">
        <Button className="button primary" type="submit" isDisabled={set.isPending}>
          Set the budget
        </Button>
        <Button className="button" onPress={onClose}>
          Cancel
        </Button>
      </div>
      <Unplaced failure={failure} fields={FIELDS} what="No budget was set" />
    </form>
  );
}
