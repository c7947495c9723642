import { formatCount, type Microdollars } from '../amounts.js';
import type { Outputs } from '../api.js';
import { Amount } from '../components/Amount.js';
import { Card } from '../components/Card.js';
import { Empty, Loading } from '../components/Notice.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { formatMoment } from '../days.js';

type Account = Outputs['profile']['account'];

/** The newest requests, personal and the organizations'. */
export function RecentRequests({ account }: { account: Account | undefined }) {
  return (
    <Card title="Last requests" note="Newest first, all scopes, times in UTC">
      {account === undefined ? (
        <Loading what="the last requests" />
      ) : account.recent.length === 0 ? (
        <Empty title="No requests yet" />
      ) : (
        <RequestTable account={account} />
      )}
    </Card>
  );
}

function RequestTable({ account }: { account: Account }) {
  const names = new Map(
    account.balance.organizations.map(({ organization_id, name }) => [organization_id, name]),
  );
  return (
    <ScrollRegion label="Last requests as a table">
      <table>
        <thead>
          <tr>
            <th scope="col">Time (UTC)</th>
            <th scope="col">Model</th>
            <th scope="col" className="number">
              Cost
            </th>
            <th scope="col">Status</th>
            <th scope="col" className="number">
              Input
            </th>
            <th scope="col" className="number">
              Output
            </th>
            <th scope="col">Scope</th>
          </tr>
        </thead>
        <tbody>
          {account.recent.map((request) => (
            <tr key={request.id}>
              <td className="time">
                <time dateTime={request.created_at} title={request.created_at}>
                  {formatMoment(request.created_at)}
                </time>
              </td>
              <th scope="row">{request.model ?? request.requested_model ?? 'no model named'}</th>
              <td className="number">
                <Amount microdollars={request.cost} />
              </td>
              <td>
                <Status cost={request.cost} hasError={request.has_error} />
              </td>
              <td className="number">{formatCount(request.input_tokens)}</td>
              <td className="number">{formatCount(request.output_tokens)}</td>
              <td>
                {request.organization_id === null
                  ? 'Personal'
                  : (names.get(request.organization_id) ?? 'Organization')}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollRegion>
  );
}

function Status({ cost, hasError }: { cost: Microdollars; hasError: boolean }) {
  if (hasError) return <span className="chip danger">Error</span>;
  if (BigInt(cost) < 0n) return <span className="chip warning">Refund</span>;
  return <span className="chip ok">OK</span>;
}
