import { useCallback, useMemo } from 'react';
import { useSearchParams } from 'react-router';
import { useChangeSearch } from '../search.js';
import { readState, type UsageState, withinScope, writeState } from './usageState.js';

/** The state in the URL, and what of it is left out; each change is a step that Back takes back. */
export function useUsageState(): {
  state: UsageState;
  remark: string | null;
  change(changed: Partial<UsageState>): void;
} {
  const [search] = useSearchParams();
  const changeSearch = useChangeSearch();
  const asked = useMemo(() => withinScope(readState(search)), [search]);
  const change = useCallback(
    (changed: Partial<UsageState>) =>
      changeSearch((before) =>
        writeState(before, { ...withinScope(readState(before)).state, ...changed }),
      ),
    [changeSearch],
  );
  return { ...asked, change };
}
