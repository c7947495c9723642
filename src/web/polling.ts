import { type UseQueryResult, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useRef } from 'react';

const MAX_INTERVAL_MS = 60_000;

/**
 * Asks again every so often: twice as rarely after each failure in a row, not at all while the tab
 * is hidden. What was last heard stays, with its age.
 */
export function usePolled<Data>(
  name: string,
  everyMs: number | ((data: Data | undefined) => number),
  ask: (signal: AbortSignal) => Promise<Data>,
): UseQueryResult<Data> {
  const failures = useRef(0);
  return useQuery({
    queryKey: [name],
    queryFn: async ({ signal }) => {
      try {
        const data = await ask(signal);
        failures.current = 0;
        return data;
      } catch (error) {
        failures.current++;
        throw error;
      }
    },
    retry: false,
    staleTime: 0,
    refetchInterval: ({ state }) => {
      const onceMs = typeof everyMs === 'number' ? everyMs : everyMs(state.data);
      return Math.min(MAX_INTERVAL_MS, onceMs * 2 ** failures.current);
    },
    refetchIntervalInBackground: false,
    refetchOnWindowFocus: true,
  });
}

/** Asks these again at once when something has ended, such as a job that changes what they show. */
export function useRefreshWhen(endedAt: string | null, names: readonly string[]): void {
  const queryClient = useQueryClient();
  const seen = useRef(endedAt);
  useEffect(() => {
    if (seen.current === endedAt) return;
    seen.current = endedAt;
    if (endedAt === null) return;
    for (const name of names) void queryClient.invalidateQueries({ queryKey: [name] });
  }, [endedAt, names, queryClient]);
}
