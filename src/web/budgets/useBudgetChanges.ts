import { useMutation, useQueryClient } from '@tanstack/react-query';
import { useSession } from '../session.js';
import type { BudgetChangeInput, NewBudgetInput } from './budget.js';

/** Sets, changes and removes; what is shown of budgets and the balance is asked for again. */
export function useBudgetChanges() {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const renew = () =>
    Promise.all(
      ['budgets.list', 'budgets.payers'].map((name) =>
        queryClient.invalidateQueries({ queryKey: [name] }),
      ),
    );
  const set = useMutation({
    mutationFn: (input: NewBudgetInput) => api.budgets.set.mutate(input),
    onSuccess: renew,
  });
  const change = useMutation({
    mutationFn: (input: BudgetChangeInput) => api.budgets.change.mutate(input),
    onSettled: renew,
  });
  const remove = useMutation({
    mutationFn: (id: string) => api.budgets.remove.mutate({ id }),
    onSettled: renew,
  });
  return { set, change, remove };
}
