import { useQuery } from '@tanstack/react-query';
import { lazy, Suspense } from 'react';
import { Navigate, Route, Routes } from 'react-router';
import { toFailure } from './api.js';
import { ClockProvider } from './clock.js';
import { ErrorBoundary } from './components/ErrorBoundary.js';
import { Layout } from './components/Layout.js';
import { ErrorNotice, Loading } from './components/Notice.js';
import { type Identity, useSession } from './session.js';
import { GettingStarted } from './start/GettingStarted.js';
import { NotFound } from './start/NotFound.js';
import { SignIn } from './start/SignIn.js';

const ProfilePage = lazy(() => import('./profile/ProfilePage.js'));
const OperationsPage = lazy(() => import('./operations/OperationsPage.js'));

export function App() {
  const { api, key } = useSession();
  const identity = useQuery({
    queryKey: ['session.current', key],
    queryFn: ({ signal }) => api.session.current.query(undefined, { signal }),
    enabled: key !== null,
    staleTime: Number.POSITIVE_INFINITY,
  });

  if (key === null) {
    return (
      <Layout identity={null}>
        <Routes>
          <Route path="/start" element={<GettingStarted />} />
          {['/', '/profile', '/operations'].map((path) => (
            <Route key={path} path={path} element={<SignIn />} />
          ))}
          <Route path="*" element={<NotFound />} />
        </Routes>
      </Layout>
    );
  }
  if (identity.data !== undefined) return <SignedIn identity={identity.data} />;
  return (
    <Layout identity={null}>
      {identity.error === null ? (
        <Loading what="your session" />
      ) : (
        <ErrorNotice
          failure={toFailure(identity.error)}
          what="Your session could not be checked"
          onRetry={() => identity.refetch()}
        />
      )}
    </Layout>
  );
}

function SignedIn({ identity }: { identity: Identity }) {
  const isOperator = identity.scopes.includes('admin');
  const home = identity.kiloUserId === null && isOperator ? '/operations' : '/profile';
  return (
    <Layout identity={identity}>
      <ErrorBoundary>
        <ClockProvider serverTime={identity.serverTime}>
          <Suspense fallback={<Loading what="the view" />}>
            <Routes>
              <Route path="/profile" element={<ProfilePage identity={identity} />} />
              <Route path="/operations" element={<OperationsPage identity={identity} />} />
              <Route path="/start" element={<GettingStarted />} />
              <Route path="/" element={<Navigate to={home} replace />} />
              <Route path="*" element={<NotFound />} />
            </Routes>
          </Suspense>
        </ClockProvider>
      </ErrorBoundary>
    </Layout>
  );
}
