import type { Outputs } from '../api.js';
import { Amount, FocusableAmount } from '../components/Amount.js';
import { Card } from '../components/Card.js';

type Balance = Outputs['profile']['account']['balance'];

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
      {balance.organizations.length > 0 && (
        <>
          <h3 className="card-subhead">Organizations</h3>
          <dl className="pairs">
            {balance.organizations.map((organization) => (
              <div key={organization.organization_id}>
                <dt>
                  {organization.name} <span className="chip">{organization.role}</span>
                </dt>
                <dd>
                  <Amount microdollars={organization.remaining_microdollars} /> left
                </dd>
              </div>
            ))}
          </dl>
        </>
      )}
    </Card>
  );
}
