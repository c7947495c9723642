import { useState } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { useNowMs } from '../clock.js';
import { Amount } from '../components/Amount.js';
import { Name } from '../components/Name.js';
import { ErrorNotice } from '../components/Notice.js';
import { formatSpan } from '../days.js';
import { formatLocal, shownZone } from '../zones.js';
import { BudgetMeter } from './BudgetMeter.js';
import { type Budget, isRaised, PER, type Setter, useOf } from './budget.js';
import { ChangeLimit, RaiseBudget } from './ChangeBudget.js';
import { useBudgetChanges } from './useBudgetChanges.js';

const SET_BY: Record<Setter, string> = {
  admin: 'set by an administrator',
  owner: 'set by an owner',
  user: 'set by the user',
};
type ItemForm = 'limit' | 'raise';

/** One budget: its use against its limit, when it begins anew, and what may be done to it. */
export function BudgetItem({
  budget,
  what,
  name,
  mayChange,
  onRemove,
}: {
  budget: Budget;
  /** What it limits: "Key". */
  what: string;
  name: string | null;
  mayChange: boolean;
  onRemove(): void;
}) {
  const [form, setForm] = useState<ItemForm | null>(null);
  const [closed, setClosed] = useState<ItemForm | null>(null);
  const { change } = useBudgetChanges();
  const { isOver, level } = useOf(budget);
  const label = name === null ? what : `${what} ${name}`;
  function close() {
    setClosed(form);
    setForm(null);
  }
  return (
    <li className="budget" data-budget={budget.id}>
      <div className="budget-head">
        <h3 className="budget-name">
          {what} {name !== null && <Name text={name} />}
        </h3>
        <span className="budget-chips">
          {!budget.is_hard && <span className="chip">soft: refuses nothing</span>}
          {isOver && <span className="chip danger">over</span>}
          {!isOver && level === 'reached' && <span className="chip danger">nothing left</span>}
          {level === 'near' && <span className="chip warning">nearly used up</span>}
          {isRaised(budget) && <span className="chip ok">raised</span>}
        </span>
        {mayChange && form === null && (
          <ItemActions
            budget={budget}
            label={label}
            isPending={change.isPending}
            focused={closed}
            onForm={setForm}
            onEndRaise={() => change.mutate({ id: budget.id, raise_usd: 0 })}
            onRemove={onRemove}
          />
        )}
      </div>
      <p className="budget-use">
        <span>
          <strong>
            <Amount microdollars={budget.spent_microdollars} />
          </strong>{' '}
          used of <Amount microdollars={budget.limit_microdollars} /> {PER[budget.window]}
        </span>
        {BigInt(budget.held_microdollars) > 0n && (
          <span>
            <Amount microdollars={budget.held_microdollars} /> held
          </span>
        )}
        {isOver ? (
          <span className="budget-excess">
            <Amount microdollars={budget.overshoot_microdollars} /> over
          </span>
        ) : (
          <span>
            <Amount microdollars={budget.available_microdollars} /> left
          </span>
        )}
      </p>
      <BudgetMeter budget={budget} name={label} />
      <p className="card-note">
        <Reset budget={budget} />
        {isRaised(budget) && budget.raise_until !== null && (
          <>
            {' '}
            Raised by <Amount microdollars={budget.raise_microdollars ?? 0} /> until{' '}
            {formatLocal(Date.parse(budget.raise_until), shownZone(budget.time_zone))}.
          </>
        )}{' '}
        {!mayChange && <>It was {SET_BY[budget.set_by]}.</>}
      </p>
      {change.error !== null && (
        <ErrorNotice failure={toFailure(change.error)} what="The raise was not ended" />
      )}
      {form === 'limit' && <ChangeLimit budget={budget} onDone={close} />}
      {form === 'raise' && <RaiseBudget budget={budget} onDone={close} />}
    </li>
  );
}

function ItemActions({
  budget,
  label,
  isPending,
  focused,
  onForm,
  onEndRaise,
  onRemove,
}: {
  budget: Budget;
  label: string;
  isPending: boolean;
  /** The form that was closed just now: the focus is back at what opens it. */
  focused: ItemForm | null;
  onForm(form: ItemForm): void;
  onEndRaise(): void;
  onRemove(): void;
}) {
  return (
    <span className="row-actions">
      <Button
        className="button small"
        aria-label={`Change the budget: ${label}`}
        autoFocus={focused === 'limit'}
        onPress={() => onForm('limit')}
      >
        Change
      </Button>
      {isRaised(budget) ? (
        <Button
          className="button small"
          aria-label={`End the raise: ${label}`}
          autoFocus={focused === 'raise'}
          isDisabled={isPending}
          onPress={onEndRaise}
        >
          End raise
        </Button>
      ) : (
        <Button
          className="button small"
          aria-label={`Raise the budget: ${label}`}
          autoFocus={focused === 'raise'}
          onPress={() => onForm('raise')}
        >
          Raise
        </Button>
      )}
      <Button
        className="button small danger"
        aria-label={`Remove the budget: ${label}`}
        onPress={onRemove}
      >
        Remove
      </Button>
    </span>
  );
}

/** When it begins anew, by the clocks of its zone. */
function Reset({ budget }: { budget: Budget }) {
  const nowMs = useNowMs();
  if (budget.resets_at === null) return <>Of all time: it does not reset.</>;
  const atMs = Date.parse(budget.resets_at);
  const zone = shownZone(budget.time_zone);
  return (
    <>
      Resets <time dateTime={budget.resets_at}>{formatLocal(atMs, zone)}</time> ({zone}), in{' '}
      {formatSpan(Math.max(0, (atMs - nowMs) / 1_000))}.
    </>
  );
}
