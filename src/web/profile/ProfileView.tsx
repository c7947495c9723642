import { useQuery } from '@tanstack/react-query';
import { useMemo, useState } from 'react';
import { Link } from 'react-router';
import { AlertsCard } from '../alerts/AlertsCard.js';
import { type Failure, toFailure } from '../api.js';
import { BudgetsCard } from '../budgets/BudgetsCard.js';
import type { BudgetNames } from '../budgets/budget.js';
import { Name } from '../components/Name.js';
import { ErrorNotice, Loading, NotRenewed } from '../components/Notice.js';
import { KeysCard } from '../keys/KeysCard.js';
import { useKeys } from '../keys/useKeys.js';
import { LeaveCard } from '../members/LeaveCard.js';
import { MembersCard } from '../members/MembersCard.js';
import { RequestsCard } from '../requests/RequestsCard.js';
import { useSeen } from '../seen.js';
import { type Identity, useSession } from '../session.js';
import { FirstEvent } from '../start/GettingStarted.js';
import { useTitle } from '../title.js';
import { UsageCard } from '../usage/UsageCard.js';
import { isOrganization } from '../usage/usageState.js';
import { useUsageState } from '../usage/useUsageState.js';
import { BalanceCard } from './BalanceCard.js';
import { KiloPassCard } from './KiloPassCard.js';

/**
 * Opened with four statements: the key, the account, the organizations, a report with its proof. What is
 * below the screen is asked for when it comes near.
 */
export function ProfileView({
  kiloUserId,
  isOwn,
  identity,
}: {
  kiloUserId: string;
  isOwn: boolean;
  identity: Identity;
}) {
  useTitle(isOwn ? 'Usage' : `Usage of ${kiloUserId}`);
  const { api } = useSession();
  const of = isOwn ? {} : { kiloUserId };
  const { state, remark, change } = useUsageState();
  const account = useQuery({
    queryKey: ['profile.account', kiloUserId],
    queryFn: ({ signal }) => api.profile.account.query({ ...of, limit: 1 }, { signal }),
  });
  const organizations = useMemo(
    () =>
      account.data?.balance.organizations.map(({ organization_id, name, role }) => ({
        id: organization_id,
        name,
        role,
      })) ?? null,
    [account.data],
  );
  const balances = useMemo(() => {
    const balance = account.data?.balance;
    if (balance === undefined) return new Map<string, bigint>();
    return new Map([
      ['personal', BigInt(balance.remaining_microdollars)],
      ...balance.organizations.map((each): [string, bigint] => [
        each.organization_id,
        BigInt(each.remaining_microdollars),
      ]),
    ]);
  }, [account.data]);
  const [below, isSeen] = useSeen();
  const shown = organizations?.find(({ id }) => id === state.scope) ?? null;
  const owned = shown?.role === 'owner' ? shown : null;
  const [leftName, setLeftName] = useState<string | null>(null);
  function leave(organization: { name: string }) {
    change({ scope: 'all', member: null, key: null, at: null });
    setLeftName(organization.name);
    scrollTo({ top: 0 });
  }
  const keys = useKeys({
    kiloUserId,
    isOwn,
    ownedOrganizationId: owned?.id ?? null,
    isEnabled: isSeen || [state.by, state.andBy].includes('key') || state.key !== null,
  });
  const budgetNames: BudgetNames = {
    self: isOwn ? kiloUserId : null,
    organization: shown?.name ?? null,
    key: (id) => keys.names.get(id) ?? `${id.slice(0, 8)}…`,
  };
  // Of an organization its owner; of a user they themselves.
  const mayWatch =
    (isOwn || identity.scopes.includes('admin')) && (owned !== null || !isOrganization(state));

  const failure = account.error === null ? null : toFailure(account.error);
  if (failure !== null && account.data === undefined) {
    return (
      <>
        <ErrorNotice
          failure={explain(failure, kiloUserId)}
          what={`The profile of ${kiloUserId} cannot be shown`}
          onRetry={() => account.refetch()}
        />
        <AnotherUser identity={identity} />
      </>
    );
  }
  // The average is of what one pays oneself.
  const hasTiers = identity.tiersUsd.length > 0 && !isOrganization(state);
  const sections = [
    ['balance', 'Balance'],
    ['budgets', 'Budgets'],
    ...(mayWatch ? [['alerts', 'Alerts']] : []),
    ['requests', 'Requests'],
    ...(owned !== null ? [['members', 'Members']] : []),
    ...(owned === null && shown !== null && isOwn ? [['members', 'Membership']] : []),
    ['keys', 'Keys'],
  ];
  const isNew =
    account.data?.recent.length === 0 && BigInt(account.data.balance.microdollars_used) === 0n;
  return (
    <>
      <div className="view-head">
        <div>
          <h1>Usage</h1>
          <p className="view-note">
            <Name text={kiloUserId} /> <AnotherUser identity={identity} />
          </p>
        </div>
        <nav className="on-page" aria-label="On this page">
          {sections.map(([anchor, text]) => (
            <a key={anchor} href={`#${anchor}`}>
              {text}
            </a>
          ))}
        </nav>
      </div>
      {failure !== null && <NotRenewed failure={failure} />}
      {leftName !== null && (
        <p className="notice" role="status">
          You left <bdi>{leftName}</bdi>. What you used there stays its own.
        </p>
      )}
      {isNew && (
        <section className="card" aria-label="No usage yet">
          <h2>No usage yet</h2>
          <p className="card-note">
            Send the first event, with a key that has usage:write, and it is here at the next look.
          </p>
          <FirstEvent userId={kiloUserId} />
        </section>
      )}
      <UsageCard
        state={state}
        remark={remark}
        onChange={change}
        kiloUserId={kiloUserId}
        organizations={organizations}
        balances={balances}
        keyNames={keys.names}
      />
      <div className={hasTiers ? 'profile-pair' : 'profile-single'}>
        {account.data === undefined ? (
          <Loading what="the balance" />
        ) : (
          <BalanceCard
            balance={account.data.balance}
            scope={state.scope}
            atMs={account.dataUpdatedAt}
            zone={state.zone}
          />
        )}
        {hasTiers && (
          <KiloPassCard kiloUserId={kiloUserId} isOwn={isOwn} tiersUsd={identity.tiersUsd} />
        )}
      </div>
      {/* Until the account is there, what is above may be shorter than it will be. */}
      <div ref={organizations === null ? null : below} className="below">
        {/* Whether one owns the organization decides what to ask for. */}
        {organizations !== null && (shown !== null || !isOrganization(state)) && (
          <BudgetsCard
            key={`budgets ${shown?.id}`}
            identity={identity}
            kiloUserId={kiloUserId}
            organization={shown}
            keys={keys}
            names={budgetNames}
          />
        )}
        {organizations !== null && mayWatch && (
          <AlertsCard
            key={`alerts ${owned?.id}`}
            payer={owned === null ? { kilo_user_id: kiloUserId } : { organization_id: owned.id }}
            names={budgetNames}
          />
        )}
        {organizations !== null && (
          <RequestsCard
            state={state}
            kiloUserId={kiloUserId}
            organizations={organizations}
            keys={keys.names}
          />
        )}
        {owned !== null && (
          <MembersCard
            key={owned.id}
            organization={owned}
            identity={identity}
            onShow={(member) => {
              change({ member, by: 'model', key: null, at: null });
              scrollTo({ top: 0 });
            }}
            onLeft={() => leave(owned)}
          />
        )}
        {isOwn && shown !== null && owned === null && (
          <LeaveCard
            key={shown.id}
            organization={shown}
            identity={identity}
            onLeft={() => leave(shown)}
          />
        )}
        <KeysCard
          identity={identity}
          kiloUserId={kiloUserId}
          organizations={organizations ?? []}
          owned={owned}
          keys={keys}
          onShow={(changed) => {
            change(changed);
            scrollTo({ top: 0 });
          }}
        />
      </div>
    </>
  );
}

/** Back to where an operator names whom to look at. */
function AnotherUser({ identity }: { identity: Identity }) {
  return identity.kiloUserId === null ? <Link to="/profile">Another user</Link> : null;
}

function explain(failure: Failure, kiloUserId: string): Failure {
  if (failure.code !== 'unknown_user') return failure;
  return { ...failure, message: `there is no user ${kiloUserId} in this ledger` };
}
