import { useQuery } from '@tanstack/react-query';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { Name } from '../components/Name.js';
import { ErrorNotice, Loading } from '../components/Notice.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { downloadCsv } from '../download.js';
import { capitalized } from '../sentence.js';
import { useSession } from '../session.js';
import { Share, SumCells, SumHeadings } from './GroupTable.js';
import { metricOf, readSums } from './metrics.js';
import type { NameOf } from './names.js';
import { type Pair, toPairs } from './pairs.js';
import type { DayRange } from './ranges.js';
import { toPairsCsv } from './usageCsv.js';
import { type Grouping, toPairsQuery, toScope, type UsageState } from './usageState.js';

/** Usage by two groups at once, over the whole range: which key used which model. */
export function PairsTable({
  state,
  by,
  range,
  of,
  nameOf,
}: {
  state: UsageState;
  by: readonly [Grouping, Grouping];
  range: DayRange;
  of: { kiloUserId: string; isOwner: boolean };
  nameOf: NameOf;
}) {
  const { api } = useSession();
  const input = { ...toPairsQuery(state, range), ...toScope(state, of.kiloUserId, of.isOwner) };
  const report = useQuery({
    queryKey: ['usage.report', input],
    queryFn: ({ signal }) => api.usage.report.query(input, { signal }),
  });
  const title = `Largest by ${by[0]} and ${by[1]}`;
  if (report.data === undefined) {
    return report.error === null ? (
      <Loading what={`usage by ${by[0]} and ${by[1]}`} />
    ) : (
      <ErrorNotice
        failure={toFailure(report.error)}
        what={`Usage by ${by[0]} and ${by[1]} is not available`}
        onRetry={() => report.refetch()}
      />
    );
  }
  const { metric } = state;
  const total = readSums(report.data.total);
  const namesOf = ({ ids, isOther }: Pair): [string, string] =>
    isOther
      ? ['Other', '']
      : [
          nameOf(by[0], { id: ids[0], isOther: false }),
          nameOf(by[1], { id: ids[1], isOther: false }),
        ];
  const rows = toPairs(report.data, metric).map((pair) => ({ ...pair, names: namesOf(pair) }));
  if (rows.length === 0) return null;
  return (
    <section aria-label={title}>
      <div className="section-head">
        <h3>{title}</h3>
        <Button
          className="button small quiet"
          onPress={() =>
            downloadCsv(
              `microdollar-usage_${range.from}_${range.until}_${by.join('_')}.csv`,
              toPairsCsv(by, rows, total),
            )
          }
        >
          Download these as CSV
        </Button>
      </div>
      <ScrollRegion label="Largest pairs" className="tall">
        <table>
          <thead>
            <tr>
              {by.map((group) => (
                <th key={group} scope="col">
                  {capitalized(group)}
                </th>
              ))}
              <SumHeadings />
            </tr>
          </thead>
          <tbody>
            {rows.map(({ ids, isOther, names, sums }) => (
              <tr key={JSON.stringify([isOther, ...ids])}>
                <th scope="row">
                  <Name text={names[0]} />
                </th>
                <td>{isOther ? null : <Name text={names[1]} />}</td>
                <SumCells sums={sums} />
                <Share part={metricOf(sums, metric)} whole={metricOf(total, metric)} />
              </tr>
            ))}
          </tbody>
          <tfoot>
            <tr>
              <th scope="row">Total</th>
              <td />
              <SumCells sums={total} />
              <td />
            </tr>
          </tfoot>
        </table>
      </ScrollRegion>
    </section>
  );
}
