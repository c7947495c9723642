import { useCallback, useMemo } from 'react';
import { useSearchParams } from 'react-router';
import { readState, type UsageState, withinScope, writeState } from './usageState.js';

/** The state in the URL, and what of it is left out; each change is a step that Back takes back. */
export function useUsageState(): {
  state: UsageState;
  remark: string | null;
  change(changed: Partial<UsageState>): void;
} {
  const [search, setSearch] = useSearchParams();
  const asked = useMemo(() => withinScope(readState(search)), [search]);
  const change = useCallback(
    (changed: Partial<UsageState>) =>
      setSearch(
        (before) => writeState(before, { ...withinScope(readState(before)).state, ...changed }),
        { preventScrollReset: true },
      ),
    [setSearch],
  );
  return { ...asked, change };
}
