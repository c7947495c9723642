import { useEffect } from 'react';

/** What the tab and its history call the view. */
export function useTitle(view: string): void {
  useEffect(() => {
    document.title = `${view} · microdollar`;
  }, [view]);
}
