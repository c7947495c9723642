import { type ReactNode, useEffect, useRef } from 'react';

/** What may be wider or longer than its place, and scrolls there, by keyboard too. */
export function ScrollRegion({
  label,
  className = '',
  startAtEnd = false,
  children,
}: {
  label: string;
  className?: string;
  /** What is at the right is what one comes for. */
  startAtEnd?: boolean;
  children: ReactNode;
}) {
  const region = useRef<HTMLElement>(null);
  useEffect(() => {
    if (startAtEnd) region.current?.scrollTo({ left: region.current.scrollWidth });
  }, [startAtEnd]);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: scrolling needs the focus
    <section ref={region} className={`scroll ${className}`} tabIndex={0} aria-label={label}>
      {children}
    </section>
  );
}
