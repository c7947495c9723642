import { formatCount } from '../amounts.js';
import { toFailure } from '../api.js';
import { AsOf } from '../components/AsOf.js';
import { Card } from '../components/Card.js';
import { Name } from '../components/Name.js';
import { Empty, ErrorNotice, Loading } from '../components/Notice.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { formatInstant } from '../days.js';
import { usePolled } from '../polling.js';
import { useSession } from '../session.js';

const EVERY_MS = 10_000;
const SHOWN = 10;

/** Usage without a price: recorded at zero until `price-unpriced` finds one. */
export function UnpricedCard() {
  const { api } = useSession();
  const unpriced = usePolled('operations.unpriced', EVERY_MS, (signal) =>
    api.operations.unpriced.query({ limit: SHOWN }, { signal }),
  );
  const failure = unpriced.error === null ? null : toFailure(unpriced.error);
  const data = unpriced.data;
  return (
    <Card
      title="Unpriced usage"
      note={
        data === undefined || data.total === 0 ? undefined : (
          <>
            {data.isAtLeast && 'At least '}
            {formatCount(data.total)} requests recorded at $0 for want of a price;{' '}
            <code>microdollar price-unpriced</code> prices them once their prices are known. The
            newest:
          </>
        )
      }
      tools={
        <AsOf updatedAtMs={unpriced.dataUpdatedAt} everyMs={EVERY_MS} failure={failure} onlyStale />
      }
    >
      {data === undefined ? (
        failure === null ? (
          <Loading what="unpriced usage" />
        ) : (
          <ErrorNotice failure={failure} what="Unpriced usage is not available" />
        )
      ) : data.rows.length === 0 ? (
        <Empty title="Everything has a price" />
      ) : (
        <ScrollRegion label="Unpriced usage as a table">
          <table>
            <thead>
              <tr>
                <th scope="col">Time (UTC)</th>
                <th scope="col">Model</th>
                <th scope="col">User</th>
                <th scope="col" className="number">
                  Input
                </th>
                <th scope="col" className="number">
                  Output
                </th>
                <th scope="col">Usage id</th>
              </tr>
            </thead>
            <tbody>
              {data.rows.map((row) => (
                <tr key={row.id}>
                  <td className="time">{formatInstant(row.createdAt)}</td>
                  <th scope="row">
                    <Name
                      text={[row.provider, row.model].filter(Boolean).join('/') || 'no model named'}
                    />
                  </th>
                  <td>
                    <Name text={row.kiloUserId} />
                  </td>
                  <td className="number">{formatCount(row.inputTokens)}</td>
                  <td className="number">{formatCount(row.outputTokens)}</td>
                  <td>
                    <code>{row.id}</code>
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </ScrollRegion>
      )}
    </Card>
  );
}
