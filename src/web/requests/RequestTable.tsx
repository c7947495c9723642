import { Button } from 'react-aria-components';
import { formatCount } from '../amounts.js';
import type { Outputs } from '../api.js';
import { Amount } from '../components/Amount.js';
import { Name } from '../components/Name.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import type { NameOf } from '../usage/names.js';
import { type Organization, scopeName } from '../usage/scopes.js';
import { localTime } from '../zones.js';

type Request = Outputs['usage']['requests']['requests'][number];

/** One page of requests. */
export function RequestTable({
  requests,
  zone,
  organizations,
  nameOf,
  withUser,
  onOpen,
}: {
  requests: readonly Request[];
  zone: string;
  organizations: readonly Organization[];
  nameOf: NameOf;
  /** They are of several users. */
  withUser: boolean;
  onOpen(id: string): void;
}) {
  return (
    <ScrollRegion label="Requests as a table">
      <table className="requests">
        <thead>
          <tr>
            <th scope="col">Time ({zone})</th>
            <th scope="col" className="number">
              Cost
            </th>
            <th scope="col">Model</th>
            <th scope="col">Status</th>
            <th scope="col" className="number">
              Input
            </th>
            <th scope="col" className="number">
              Output
            </th>
            <th scope="col">Key</th>
            <th scope="col">{withUser ? 'Member' : 'Scope'}</th>
          </tr>
        </thead>
        <tbody>
          {requests.map((request) => (
            <tr key={request.id} data-request={request.id}>
              <td className="time">
                <Button
                  className="link-button"
                  aria-label={`Request of ${formatTime(request.created_at, zone)} in detail`}
                  onPress={() => onOpen(request.id)}
                >
                  <time dateTime={request.created_at}>{formatTime(request.created_at, zone)}</time>
                </Button>
              </td>
              <td className="number">
                <Amount microdollars={request.cost} />
              </td>
              <th scope="row">
                <Name text={request.model ?? request.requested_model ?? 'no model named'} />
              </th>
              <td>
                <StatusChips request={request} />
              </td>
              <td className="number">{formatCount(request.input_tokens)}</td>
              <td className="number">{formatCount(request.output_tokens)}</td>
              <td>
                {request.api_key_id === null ? (
                  <span className="muted">–</span>
                ) : (
                  <Name text={nameOf('key', { id: request.api_key_id, isOther: false })} />
                )}
              </td>
              <td>
                <Name
                  text={
                    withUser
                      ? request.kilo_user_id
                      : scopeName(request.organization_id ?? 'personal', organizations)
                  }
                />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </ScrollRegion>
  );
}

type Charged = Pick<Request, 'cost' | 'has_error' | 'unpriced'>;

/** A cost of 0 that is none yet says so. */
export function StatusChips({ request }: { request: Charged }) {
  return (
    <>
      {(request.has_error || !request.unpriced) && <StatusChip request={request} />}
      {request.has_error && request.unpriced && ' '}
      {request.unpriced && <span className="chip warning">No price</span>}
    </>
  );
}

function StatusChip({ request }: { request: Charged }) {
  if (request.has_error) return <span className="chip danger">Error</span>;
  if (BigInt(request.cost) < 0n) return <span className="chip warning">Refund</span>;
  return <span className="chip ok">OK</span>;
}

/** 2026-11-22 10:02:11 in the zone. */
export function formatTime(instant: string, zone: string): string {
  return localTime(Date.parse(instant), zone).replace('T', ' ');
}
