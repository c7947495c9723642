import { type FormEvent, useState } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { ChoiceField, TextField } from '../components/FormField.js';
import { Unplaced } from '../components/Unplaced.js';
import { useFocusOnProblem } from '../components/useFocusOnProblem.js';
import { problemOf, typedUsd } from '../formValues.js';
import {
  KINDS,
  type Kind,
  type NewAlertInput,
  type Payer,
  readPercents,
  THRESHOLDS,
} from './alert.js';
import { useAlertChanges } from './useAlertChanges.js';

const FIELDS = [
  'kind',
  'budget_id',
  'thresholds_percent',
  'below_usd',
  'floor_usd',
  'kilo_user_id',
  'organization_id',
];

/** What is watched, and when it is told. The same again changes it. */
export function NewAlert({
  payer,
  budgets,
  onClose,
}: {
  /** Null: anybody's, who is named. */
  payer: Payer | null;
  /** Those that can be watched; null: named by id. */
  budgets: readonly { id: string; text: string }[] | null;
  onClose(): void;
}) {
  const { set } = useAlertChanges();
  const failure = set.error === null ? null : toFailure(set.error);
  const form = useFocusOnProblem(set.error);
  const kinds = budgets?.length === 0 ? KINDS.filter(({ id }) => id !== 'budget') : KINDS;
  const [kind, setKind] = useState<Kind>(kinds[0]?.id ?? 'balance');
  const [budget, setBudget] = useState('');
  const [percents, setPercents] = useState(THRESHOLDS[kind]);
  const [amount, setAmount] = useState('');
  const [named, setNamed] = useState({ kilo_user_id: '', organization_id: '' });
  const problem = (field: string) => problemOf(failure, field);

  function choose(next: Kind) {
    setKind(next);
    setPercents(THRESHOLDS[next]);
    setAmount(next === 'spend' ? '1' : '');
    set.reset();
  }

  function toInput(): NewAlertInput {
    if (kind === 'budget') {
      return {
        kind,
        budget_id: budget.trim() || (budgets?.[0]?.id ?? ''),
        thresholds_percent: readPercents(percents),
      };
    }
    const whose =
      payer ?? Object.fromEntries(Object.entries(named).filter(([, id]) => id.trim() !== ''));
    if (kind === 'balance') return { kind, ...whose, below_usd: typedUsd(amount) };
    return {
      kind,
      ...whose,
      thresholds_percent: readPercents(percents),
      floor_usd: typedUsd(amount),
    };
  }

  function submit(event: FormEvent) {
    event.preventDefault();
    set.mutate(toInput(), { onSuccess: onClose });
  }

  return (
    <form ref={form} className="budget-form" onSubmit={submit} aria-label="New alert">
      <ChoiceField
        label="Tell when"
        isFirst
        problem={problem('kind')}
        value={kind}
        choices={kinds}
        onChoose={choose}
      />
      {kind === 'budget' &&
        (budgets === null ? (
          <TextField
            label="Budget id"
            problem={problem('budget_id')}
            value={budget}
            onType={setBudget}
          />
        ) : (
          <ChoiceField
            label="Budget"
            problem={problem('budget_id')}
            value={budget || (budgets[0]?.id ?? '')}
            choices={budgets}
            onChoose={setBudget}
          />
        ))}
      {kind !== 'budget' && payer === null && (
        <>
          <TextField
            label="User id"
            problem={problem('kilo_user_id')}
            value={named.kilo_user_id}
            onType={(id) => setNamed({ ...named, kilo_user_id: id })}
          />
          <TextField
            label="or organization id"
            problem={problem('organization_id')}
            value={named.organization_id}
            onType={(id) => setNamed({ ...named, organization_id: id })}
          />
        </>
      )}
      {kind !== 'balance' && (
        <TextField
          label={kind === 'budget' ? 'At percent' : 'At percent of the usual'}
          problem={problem('thresholds_percent')}
          value={percents}
          onType={setPercents}
        />
      )}
      {kind !== 'budget' && (
        <TextField
          label={kind === 'balance' ? 'Less is left than, $' : 'Never below, $'}
          kind="amount"
          problem={problem(kind === 'balance' ? 'below_usd' : 'floor_usd')}
          value={amount}
          onType={setAmount}
        />
      )}
      <div className="row-actions">
        <Button className="button primary" type="submit" isDisabled={set.isPending}>
          Set the alert
        </Button>
        <Button className="button" onPress={onClose}>
          Cancel
        </Button>
      </div>
      <Unplaced failure={failure} fields={FIELDS} what="No alert was set" />
    </form>
  );
}
