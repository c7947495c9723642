import { QueryCache, QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { createContext, type ReactNode, use, useMemo, useState } from 'react';
import { type Api, createApi, type Outputs, toFailure } from './api.js';

export type Identity = Outputs['session']['current'];

/** Why one is at the sign-in form. */
export type SignOutReason = 'left' | 'refused' | null;

interface Session {
  api: Api;
  /** Null: signed out. */
  key: string | null;
  reason: SignOutReason;
  signIn(key: string): void;
  signOut(reason: SignOutReason): void;
}

/** Session storage: gone with the tab, never sent anywhere but to this server. */
const STORAGE = 'microdollar.key';
const SessionContext = createContext<Session | null>(null);

export function useSession(): Session {
  const session = use(SessionContext);
  if (session === null) throw new Error('outside of SessionProvider');
  return session;
}

export function SessionProvider({ children }: { children: ReactNode }) {
  const [key, setKey] = useState(() => sessionStorage.getItem(STORAGE));
  const [reason, setReason] = useState<SignOutReason>(null);

  const { api, queryClient, signIn, signOut } = useMemo(() => {
    const getKey = () => sessionStorage.getItem(STORAGE);
    const api = createApi({ getKey });
    const queryClient = new QueryClient({
      queryCache: new QueryCache({
        onError(error) {
          // The key was revoked, or its user deleted, while the page was open.
          if (toFailure(error).code === 'unauthorized' && getKey() !== null) signOut('refused');
        },
      }),
      defaultOptions: {
        queries: {
          staleTime: 5_000,
          // Without a network a call fails and says so; paused, it would leave a view as it was.
          networkMode: 'always',
          retry: (failures, error) => toFailure(error).code === 'unavailable' && failures < 2,
        },
        mutations: { retry: false, networkMode: 'always' },
      },
    });
    function signIn(next: string) {
      sessionStorage.setItem(STORAGE, next);
      queryClient.clear();
      setReason(null);
      setKey(next);
    }
    function signOut(why: SignOutReason) {
      sessionStorage.removeItem(STORAGE);
      setReason(why);
      setKey(null);
      queryClient.clear();
    }
    return { api, queryClient, signIn, signOut };
  }, []);

  const session = useMemo(
    () => ({ api, key, reason, signIn, signOut }),
    [api, key, reason, signIn, signOut],
  );
  return (
    <SessionContext value={session}>
      <QueryClientProvider client={queryClient}>{children}</QueryClientProvider>
    </SessionContext>
  );
}
