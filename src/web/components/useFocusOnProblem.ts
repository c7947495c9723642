import { type RefObject, useEffect, useRef } from 'react';

/** To the first field that was refused, each time that something was. */
export function useFocusOnProblem(refusal: unknown): RefObject<HTMLFormElement | null> {
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (refusal === null) return;
    form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [refusal]);
  return form;
}
