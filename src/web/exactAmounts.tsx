import { createContext, type ReactNode, use, useMemo, useState } from 'react';

interface ExactAmounts {
  /** Six decimals everywhere instead of two. */
  isExact: boolean;
  setExact(isExact: boolean): void;
}

const ExactContext = createContext<ExactAmounts>({ isExact: false, setExact: () => {} });

export function useExactAmounts(): ExactAmounts {
  return use(ExactContext);
}

export function ExactAmountsProvider({ children }: { children: ReactNode }) {
  const [isExact, setExact] = useState(false);
  const value = useMemo(() => ({ isExact, setExact }), [isExact]);
  return <ExactContext value={value}>{children}</ExactContext>;
}
