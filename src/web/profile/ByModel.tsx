import { useQuery } from '@tanstack/react-query';
import { Button } from 'react-aria-components';
import { formatCount, sumMicrodollars } from '../amounts.js';
import { toFailure } from '../api.js';
import { Amount } from '../components/Amount.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { formatDayLong } from '../days.js';
import { useSession } from '../session.js';

/** One UTC day by model, asked for when it is chosen. */
export function ByModel({
  kiloUserId,
  of,
  day,
  organizationId,
  scopeName,
  onClose,
}: {
  kiloUserId: string;
  of: { kiloUserId?: string };
  day: string;
  organizationId: string | null;
  scopeName: string;
  onClose(): void;
}) {
  const { api } = useSession();
  const byModel = useQuery({
    queryKey: ['usage.byModel', kiloUserId, organizationId, day],
    queryFn: ({ signal }) =>
      api.usage.byModel.query({ ...of, date: day, organizationId }, { signal }),
  });
  const rows = byModel.data;
  return (
    <section className="by-model" aria-label="A day by model" aria-live="polite">
      <div className="by-model-head">
        <h3>
          {formatDayLong(day)} (UTC) by model <span className="muted">{scopeName}</span>
        </h3>
        <Button className="button small quiet" onPress={onClose}>
          Close
        </Button>
      </div>
      {byModel.error !== null && (
        <ErrorNotice
          failure={toFailure(byModel.error)}
          what="The day is not available"
          onRetry={() => byModel.refetch()}
        />
      )}
      {rows === undefined ? (
        byModel.error === null && <Loading what="the day" />
      ) : rows.length === 0 ? (
        <Empty title="No requests on this day" />
      ) : (
        <ScrollRegion label="Models of the day">
          <table>
            <thead>
              <tr>
                <th scope="col">Model</th>
                <th scope="col" className="number">
                  Cost
                </th>
                <th scope="col" className="number">
                  Requests
                </th>
                <th scope="col" className="number">
                  Input
                </th>
                <th scope="col" className="number">
                  of it cached
                </th>
                <th scope="col" className="number">
                  Output
                </th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.model ?? ''}>
                  <th scope="row">{row.model ?? 'no model named'}</th>
                  <td className="number">
                    <Amount microdollars={row.cost} />
                  </td>
                  <td className="number">{formatCount(row.requests)}</td>
                  <td className="number">{formatCount(row.input_tokens)}</td>
                  <td className="number">{formatCount(row.cache_hit_tokens)}</td>
                  <td className="number">{formatCount(row.output_tokens)}</td>
                </tr>
              ))}
            </tbody>
            <tfoot>
              <tr>
                <th scope="row">Total</th>
                <td className="number">
                  <Amount microdollars={sumMicrodollars(rows.map((row) => row.cost))} />
                </td>
                <td className="number">
                  {formatCount(rows.reduce((sum, row) => sum + row.requests, 0))}
                </td>
                <td colSpan={3} />
              </tr>
            </tfoot>
          </table>
        </ScrollRegion>
      )}
    </section>
  );
}
