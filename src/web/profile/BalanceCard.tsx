import { useState } from 'react';
import type { Outputs } from '../api.js';
import { Amount, FocusableAmount } from '../components/Amount.js';
import { Card } from '../components/Card.js';
import { Name } from '../components/Name.js';
import { ShowMore } from '../components/ShowMore.js';
import { sortByName } from '../usage/scopes.js';

type Balance = Outputs['profile']['account']['balance'];

/** Organizations at first, and at each further look. */
const PAGE = 6;

/** What is left, of the user and of their organizations. */
export function BalanceCard({ balance }: { balance: Balance }) {
  const isOverdrawn = BigInt(balance.remaining_microdollars) < 0n;
  return (
    <Card title="Balance" note="Exact at this instant">
      <p className={isOverdrawn ? 'figure overdrawn' : 'figure'}>
        <FocusableAmount microdollars={balance.remaining_microdollars} />
        <span className="figure-unit">{isOverdrawn ? 'overdrawn' : 'left'}</span>
      </p>
      <dl className="pairs">
        <div>
          <dt>Used</dt>
          <dd>
            <Amount microdollars={balance.microdollars_used} />
          </dd>
        </div>
        <div>
          <dt>Topped up</dt>
          <dd>
            <Amount microdollars={balance.total_microdollars_acquired} />
          </dd>
        </div>
      </dl>
      {balance.organizations.length > 0 && <Organizations all={balance.organizations} />}
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
