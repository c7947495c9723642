import { type RefObject, useEffect, useState } from 'react';

const MARGIN = '240px';

/** Whether an element has ever been on the screen, or nearly: what is below may be asked for later. */
export function useNearViewport(element: RefObject<Element | null>): boolean {
  const [isNear, setNear] = useState(false);
  useEffect(() => {
    const watched = element.current;
    if (watched === null || isNear) return;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some(({ isIntersecting }) => isIntersecting)) setNear(true);
      },
      { rootMargin: MARGIN },
    );
    const onPrint = () => setNear(true);
    observer.observe(watched);
    window.addEventListener('beforeprint', onPrint);
    return () => {
      observer.disconnect();
      window.removeEventListener('beforeprint', onPrint);
    };
  }, [element, isNear]);
  return isNear;
}
