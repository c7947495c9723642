import { useCallback } from 'react';
import { useNavigate } from 'react-router';

/**
 * Changes the state in the URL, from what the URL says and not from what is shown: on a slow page a second
 * change comes before the first is rendered, and would take it back.
 */
export function useChangeSearch(): (change: (before: URLSearchParams) => URLSearchParams) => void {
  const navigate = useNavigate();
  return useCallback(
    (change) => {
      const next = change(new URLSearchParams(window.location.search));
      navigate(`?${next}`, { preventScrollReset: true });
    },
    [navigate],
  );
}
