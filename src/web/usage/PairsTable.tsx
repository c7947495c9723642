import { Button } from 'react-aria-components';
import { Name } from '../components/Name.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { downloadCsv } from '../download.js';
import { capitalized } from '../sentence.js';
import { Share, SumCells, SumHeadings } from './GroupTable.js';
import { type Metric, metricOf } from './metrics.js';
import type { NameOf } from './names.js';
import type { Pair } from './pairs.js';
import type { UsageSeries } from './series.js';
import { toPairsCsv } from './usageCsv.js';
import type { Grouping } from './usageState.js';

/** Usage by two groups at once, over the range: which key used which model. Of the answer of the chart. */
export function PairsTable({
  pairs,
  by,
  series,
  metric,
  nameOf,
}: {
  pairs: readonly Pair[];
  by: readonly [Grouping, Grouping];
  series: UsageSeries;
  metric: Metric;
  nameOf: NameOf;
}) {
  const title = `Largest by ${by[0]} and ${by[1]}`;
  const { range, total } = series;
  const namesOf = ({ ids, isOther }: Pair): [string, string] =>
    isOther
      ? ['Other', '']
      : [
          nameOf(by[0], { id: ids[0], isOther: false }),
          nameOf(by[1], { id: ids[1], isOther: false }),
        ];
  const rows = pairs.map((pair) => ({ ...pair, names: namesOf(pair) }));
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
