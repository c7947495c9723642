import { type RefCallback, useEffect, useState } from 'react';

/**
 * Whether an element has ever been on the screen, or the page is printed: what is below may be asked
 * for later.
 */
export function useSeen(): [place: RefCallback<Element>, isSeen: boolean] {
  const [element, setElement] = useState<Element | null>(null);
  const [isSeen, setSeen] = useState(false);
  useEffect(() => {
    if (element === null || isSeen) return;
    const observer = new IntersectionObserver((entries) => {
      if (entries.some(({ isIntersecting }) => isIntersecting)) setSeen(true);
    });
    const onPrint = () => setSeen(true);
    observer.observe(element);
    window.addEventListener('beforeprint', onPrint);
    return () => {
      observer.disconnect();
      window.removeEventListener('beforeprint', onPrint);
    };
  }, [element, isSeen]);
  return [setElement, isSeen];
}
