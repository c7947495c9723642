import { createContext, type ReactNode, use, useEffect, useState } from 'react';

const MINUTE_MS = 60_000;

const ClockContext = createContext<number>(0);

/** The server's time, ms, to the minute: "today" is not the browser's to say. */
export function useNowMs(): number {
  return use(ClockContext);
}

export function ClockProvider({
  serverTime,
  children,
}: {
  /** ISO 8601, as of the first render. */
  serverTime: string;
  children: ReactNode;
}) {
  const [skewMs] = useState(() => Date.parse(serverTime) - Date.now());
  const [nowMs, setNowMs] = useState(() => Date.now() + skewMs);
  useEffect(() => {
    const timer = setInterval(() => setNowMs(Date.now() + skewMs), MINUTE_MS);
    return () => clearInterval(timer);
  }, [skewMs]);
  return <ClockContext value={nowMs}>{children}</ClockContext>;
}
