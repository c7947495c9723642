import type { ReactNode } from 'react';
import { Button, Switch } from 'react-aria-components';
import { Link, NavLink } from 'react-router';
import { useExactAmounts } from '../exactAmounts.js';
import { type Identity, useSession } from '../session.js';
import { Offline } from './Offline.js';
import { ThemeChoice } from './ThemeChoice.js';

/** Header, navigation and the view. */
export function Layout({ identity, children }: { identity: Identity | null; children: ReactNode }) {
  return (
    <>
      <a className="skip-link" href="#view">
        Skip to the view
      </a>
      <header className="header">
        <div className="header-row">
          <Link className="brand" to="/">
            <img src="/favicon.svg" alt="" width={24} height={24} />
            microdollar
          </Link>
          <Navigation identity={identity} />
          <div className="header-tools">
            {identity !== null && <ExactSwitch />}
            <ThemeChoice />
            {identity !== null && <Leave identity={identity} />}
          </div>
        </div>
      </header>
      <main id="view" className="view" tabIndex={-1}>
        <Offline />
        {children}
      </main>
      <footer className="footer">
        <a href="/docs">API reference</a>
      </footer>
    </>
  );
}

function Navigation({ identity }: { identity: Identity | null }) {
  const { key } = useSession();
  return (
    <nav className="nav" aria-label="Views">
      {identity !== null && <NavLink to="/profile">Profile</NavLink>}
      {identity?.scopes.includes('admin') && <NavLink to="/operations">Operations</NavLink>}
      {key === null && (
        <NavLink to="/" end>
          Sign in
        </NavLink>
      )}
      <NavLink to="/start">First steps</NavLink>
    </nav>
  );
}

function ExactSwitch() {
  const { isExact, setExact } = useExactAmounts();
  return (
    <Switch className="switch" isSelected={isExact} onChange={setExact}>
      <span className="switch-track" aria-hidden="true" />
      <span>
        Exact<span className="wide-only"> amounts</span>
      </span>
    </Switch>
  );
}

function Leave({ identity }: { identity: Identity }) {
  const { signOut } = useSession();
  const who = identity.kiloUserId ?? (identity.keyId === 'admin' ? 'admin key' : 'service key');
  return (
    <div className="who">
      <span className="who-name" title={who}>
        <bdi>{who}</bdi>
      </span>
      <Button className="button quiet" onPress={() => signOut('left')}>
        Sign out
      </Button>
    </div>
  );
}
