import { useCallback, useMemo } from 'react';
import { useSearchParams } from 'react-router';
import { readState, type UsageState, writeState } from './usageState.js';

/** The state in the URL; each change is a step that Back takes back. */
export function useUsageState(): [UsageState, (change: Partial<UsageState>) => void] {
  const [search, setSearch] = useSearchParams();
  const state = useMemo(() => readState(search), [search]);
  const change = useCallback(
    (changed: Partial<UsageState>) =>
      setSearch((before) => writeState(before, { ...readState(before), ...changed }), {
        preventScrollReset: true,
      }),
    [setSearch],
  );
  return [state, change];
}
