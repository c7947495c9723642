import { useState } from 'react';
import { toFailure } from '../api.js';
import { Confirm } from '../components/Confirm.js';
import { ErrorNotice } from '../components/Notice.js';
import { ShowMore } from '../components/ShowMore.js';
import { BudgetItem } from './BudgetItem.js';
import { type Budget, type BudgetNames, inOrder, subjectOf } from './budget.js';
import { useBudgetChanges } from './useBudgetChanges.js';

/** Budgets at first, and at each further look. */
const PAGE = 12;

/** Budgets of one payer, but for its balance. Removed only after a question. */
export function BudgetList({
  budgets,
  names,
  mayChange,
}: {
  budgets: readonly Budget[];
  names: BudgetNames;
  mayChange(budget: Budget): boolean;
}) {
  const { remove } = useBudgetChanges();
  const [shown, setShown] = useState(PAGE);
  const [removing, setRemoving] = useState<Budget | null>(null);
  const subject = removing === null ? null : subjectOf(removing, names);
  return (
    <>
      {remove.error !== null && (
        <ErrorNotice failure={toFailure(remove.error)} what="The budget was not removed" />
      )}
      <ul className="budgets">
        {inOrder(budgets)
          .slice(0, shown)
          .map((budget) => (
            <BudgetItem
              key={budget.id}
              budget={budget}
              {...subjectOf(budget, names)}
              mayChange={mayChange(budget)}
              onRemove={() => setRemoving(budget)}
            />
          ))}
      </ul>
      <ShowMore left={budgets.length - shown} onPress={() => setShown(shown + PAGE * 4)} />
      <Confirm
        isOpen={removing !== null}
        title="Remove this budget?"
        action="Remove"
        isDanger
        onConfirm={() => removing !== null && remove.mutate(removing.id)}
        onClose={() => setRemoving(null)}
      >
        <p>
          {subject?.what} <bdi>{subject?.name}</bdi> is not limited by it any more, from the next
          request on. Other budgets and the balance still are.
        </p>
      </Confirm>
    </>
  );
}
