import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { Name } from '../components/Name.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { ShowMore } from '../components/ShowMore.js';
import { formatInstant } from '../days.js';
import { useRefreshWhen } from '../polling.js';
import { useSession } from '../session.js';
import { type Delivery, describeEvent, describeTry, type Payer, STATES } from './alert.js';
import { useAlertChanges } from './useAlertChanges.js';

/** Deliveries at first, and at each further look. */
const PAGE = 10;
const MAX_LISTED = 200;
/** What lists webhooks. */
const WEBHOOKS = ['alerts.list'];
/** While something is on its way. */
const EVERY_MS = 5_000;

type State = keyof typeof STATES;

/** What was told, the newest first, and what became of it; what was given up is sent again. */
export function Deliveries({
  payer,
  budgetName,
}: {
  payer: Payer | null;
  budgetName(id: string): string;
}) {
  const { api } = useSession();
  const { replay } = useAlertChanges();
  const [state, setState] = useState<State | ''>('');
  const [shown, setShown] = useState(PAGE);
  const input = { ...payer, state: state || null, limit: MAX_LISTED };
  const list = useQuery({
    queryKey: ['alerts.deliveries', input],
    queryFn: ({ signal }) => api.alerts.deliveries.query(input, { signal }),
    refetchInterval: ({ state: { data } }) =>
      data?.deliveries.some((each) => each.state === 'pending') ? EVERY_MS : false,
  });
  const found = list.data?.deliveries ?? [];
  // A webhook that is given up for good is disabled, which the list of webhooks shows.
  const givenUp = found.filter((each) => each.state === 'dead').length;
  useRefreshWhen(list.data === undefined ? null : String(givenUp), WEBHOOKS);
  return (
    <section className="alert-part" aria-label="Deliveries">
      <div className="section-head">
        <h3 className="card-subhead">What was told</h3>
        <label className="scope">
          <span>State</span>
          <select
            aria-label="State"
            value={state}
            onChange={(event) => setState(event.target.value as State | '')}
          >
            <option value="">Any</option>
            {Object.entries(STATES).map(([id, { text }]) => (
              <option key={id} value={id}>
                {text}
              </option>
            ))}
          </select>
        </label>
      </div>
      {replay.error !== null && (
        <ErrorNotice failure={toFailure(replay.error)} what="It was not sent again" />
      )}
      {list.error !== null ? (
        <ErrorNotice
          failure={toFailure(list.error)}
          what="The deliveries are not available"
          onRetry={() => list.refetch()}
        />
      ) : list.data === undefined ? (
        <Loading what="deliveries" />
      ) : found.length === 0 ? (
        <Empty title={state === '' ? 'Nothing was told yet' : 'None in this state'} />
      ) : (
        <ScrollRegion label="Deliveries as a table">
          <table>
            <thead>
              <tr>
                {['Time (UTC)', 'What', 'Sent to', 'State', 'Tries', 'Last try', ''].map(
                  (heading) => (
                    <th key={heading} scope="col">
                      {heading === '' ? <span className="unseen">Actions</span> : heading}
                    </th>
                  ),
                )}
              </tr>
            </thead>
            <tbody>
              {found.slice(0, shown).map((delivery) => (
                <DeliveryRow
                  key={`${delivery.event_id} ${delivery.id}`}
                  delivery={delivery}
                  what={describeEvent(delivery, budgetName)}
                  isBusy={replay.isPending}
                  onReplay={() => delivery.id !== null && replay.mutate(delivery.id)}
                />
              ))}
            </tbody>
          </table>
        </ScrollRegion>
      )}
      <ShowMore left={found.length - shown} onPress={() => setShown(shown + PAGE * 5)} />
    </section>
  );
}

function DeliveryRow({
  delivery,
  what,
  isBusy,
  onReplay,
}: {
  delivery: Delivery;
  what: string;
  isBusy: boolean;
  onReplay(): void;
}) {
  const state = delivery.state === null ? null : STATES[delivery.state];
  return (
    <tr data-delivery={delivery.id ?? ''}>
      <td className="time">{formatInstant(delivery.created_at)}</td>
      <th scope="row" className="sentence">
        <Name text={what} />
      </th>
      <td>{delivery.url === null ? 'no webhook' : <Name text={delivery.url} />}</td>
      <td>{state === null ? '–' : <span className={`chip ${state.tone}`}>{state.text}</span>}</td>
      <td className="number">{delivery.attempts}</td>
      <td>{describeTry(delivery) ?? '–'}</td>
      <td>
        {delivery.state === 'dead' && (
          <Button
            className="button small"
            aria-label={`Send again: ${what}`}
            isDisabled={isBusy}
            onPress={onReplay}
          >
            Send again
          </Button>
        )}
      </td>
    </tr>
  );
}
