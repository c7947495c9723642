import { useState } from 'react';
import type { Outputs } from '../api.js';
import { Amount, FocusableAmount } from '../components/Amount.js';
import { Card } from '../components/Card.js';
import { Name } from '../components/Name.js';
import { ShowMore } from '../components/ShowMore.js';
import { capitalized } from '../sentence.js';
import { sortByName } from '../usage/scopes.js';
import { formatLocal } from '../zones.js';

type Balance = Outputs['profile']['account']['balance'];

/** Organizations at first, and at each further look. */
const PAGE = 6;

/**
 * What is left of who pays in the scope: the user, beside their organizations, or one organization. What
 * is held stands apart: it comes and goes with each request, what is left only goes down.
 */
export function BalanceCard({
  balance,
  scope,
  atMs,
  zone,
}: {
  balance: Balance;
  scope: string;
  /** When it was read: while it cannot be renewed, it is of then. */
  atMs: number;
  zone: string;
}) {
  const { organizations } = balance;
  const isPersonal = scope === 'all' || scope === 'personal';
  const organization = organizations.find(({ organization_id }) => organization_id === scope);
  const payer = isPersonal ? balance : organization;
  if (payer === undefined) return null;
  const isOverdrawn = BigInt(payer.remaining_microdollars) < 0n;
  const exact = `exact at ${formatLocal(atMs, zone)} ${zone}`;
  const whose =
    organization !== undefined ? (
      <>
        Of <bdi>{organization.name}</bdi>, {exact}
      </>
    ) : organizations.length > 0 ? (
      `Personal, ${exact}`
    ) : (
      capitalized(exact)
    );
  return (
    <Card anchor="balance" title="Balance" note={whose}>
      <p className={isOverdrawn ? 'figure overdrawn' : 'figure'}>
        <FocusableAmount microdollars={payer.remaining_microdollars} />
        <span className="figure-unit">{isOverdrawn ? 'overdrawn' : 'left'}</span>
      </p>
      <dl className="pairs">
        {[
          ['Used', payer.microdollars_used] as const,
          ['Held for requests in flight', payer.held_microdollars] as const,
          ['Topped up', payer.total_microdollars_acquired] as const,
        ].map(([term, amount]) => (
          <div key={term}>
            <dt>{term}</dt>
            <dd>
              <Amount microdollars={amount} />
            </dd>
          </div>
        ))}
      </dl>
      {scope === 'all' && organizations.length > 0 && <Organizations all={organizations} />}
    </Card>
  );
}

function Organizations({ all }: { all: Balance['organizations'] }) {
  const [shown, setShown] = useState(PAGE);
  const [search, setSearch] = useState('');
  const wanted = search.trim().toLowerCase();
  const found = sortByName(all.map((each) => ({ ...each, id: each.organization_id }))).filter(
    ({ name }) => name.toLowerCase().includes(wanted),
  );
  return (
    <>
      <div className="section-head">
        <h3 className="card-subhead">Organizations</h3>
        {all.length > PAGE && (
          <input
            type="search"
            aria-label="Search balances"
            placeholder={`Search ${all.length}`}
            value={search}
            onChange={(event) => setSearch(event.target.value)}
          />
        )}
      </div>
      <dl className="pairs">
        {found.slice(0, shown).map((organization) => (
          <div key={organization.id}>
            <dt>
              <Name text={organization.name} />{' '}
              <span className="chip">
                <bdi>{organization.role}</bdi>
              </span>
            </dt>
            <dd>
              <Amount microdollars={organization.remaining_microdollars} /> left
            </dd>
          </div>
        ))}
      </dl>
      <ShowMore left={found.length - shown} onPress={() => setShown(shown + PAGE * 4)} />
    </>
  );
}
