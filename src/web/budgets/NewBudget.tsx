import { type FormEvent, useState } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { ChoiceField, TextField } from '../components/FormField.js';
import { Unplaced } from '../components/Unplaced.js';
import { useFocusOnProblem } from '../components/useFocusOnProblem.js';
import { problemOf, typedUsd } from '../formValues.js';
import { localZone } from '../zones.js';
import { type Budget, MODES, type Mode, WINDOWS, type Window } from './budget.js';
import { type SubjectChoices, toSubject } from './subjects.js';
import { useBudgetChanges } from './useBudgetChanges.js';

const PAYERS = { kilo_user_id: 'Paid by user', organization_id: 'Organization id' } as const;
const FIELDS = ['id', 'limit_usd', 'window', 'time_zone', 'mode', ...Object.keys(PAYERS)];
const NOTHING = { id: '', kilo_user_id: '', organization_id: '' };

/** What is limited, to how much, in which time. The same again changes its limit. */
export function NewBudget({
  subjects,
  onSet,
  onClose,
}: {
  subjects: SubjectChoices;
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
  const [zone, setZone] = useState('UTC');
  const [mode, setMode] = useState<Mode>('hard');
  const subject = subjects.find(({ scope }) => scope === chosen) ?? subjects[0];
  const { id: named } = subject;
  const id = typed.id || ('options' in named ? (named.options?.[0]?.id ?? '') : '');
  const problem = (field: string) => problemOf(failure, field);

  function choose(scope: string) {
    setChosen(scope);
    setTyped(NOTHING);
    set.reset();
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    set.mutate(
      {
        ...toSubject(subject, { ...typed, id }),
        limit_usd: typedUsd(limit),
        window,
        time_zone: zone.trim(),
        mode,
      },
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
          value={zone}
          suggested={[...new Set(['UTC', localZone(), ...Intl.supportedValuesOf('timeZone')])]}
          onType={setZone}
        />
      )}
      <ChoiceField
        label="When used up"
        problem={problem('mode')}
        value={mode}
        choices={MODES}
        onChoose={setMode}
      />
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
