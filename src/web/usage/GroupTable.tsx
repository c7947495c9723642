import { Button } from 'react-aria-components';
import { formatCount } from '../amounts.js';
import { Amount } from '../components/Amount.js';
import { Name } from '../components/Name.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { capitalized } from '../sentence.js';
import { layerClass } from './layers.js';
import { type Metric, metricOf, type Sums } from './metrics.js';
import { type Group, keyOf, type UsageSeries } from './series.js';

export interface GroupRow {
  group: Group;
  sums: Sums;
  /** Among the groups of the series: its colour. */
  index: number;
}

/** Groups with what they used, and a total that is that of everything. */
export function GroupTable({
  label,
  by,
  rows,
  total,
  metric,
  nameOf,
  onPick,
}: {
  label: string;
  by: NonNullable<UsageSeries['by']>;
  rows: readonly GroupRow[];
  total: Sums;
  metric: Metric;
  nameOf(group: Group): string;
  /** Shows one alone. */
  onPick?(group: Group): void;
}) {
  const whole = metricOf(total, metric);
  return (
    <ScrollRegion label={label} className="tall">
      <table>
        <thead>
          <tr>
            <th scope="col">{capitalized(by)}</th>
            <SumHeadings />
          </tr>
        </thead>
        <tbody>
          {rows.map(({ group, sums, index }) => (
            <tr key={keyOf(group)} data-group={group.id ?? ''}>
              <th scope="row">
                <span className={`legend-mark ${layerClass(index, group.isOther)}`} aria-hidden />{' '}
                {onPick !== undefined && group.id !== null ? (
                  <Button
                    className="link-button"
                    aria-label={`Only ${by} ${nameOf(group)}`}
                    onPress={() => onPick(group)}
                  >
                    <Name text={nameOf(group)} isFocusable={false} />
                  </Button>
                ) : (
                  <Name text={nameOf(group)} />
                )}
              </th>
              <SumCells sums={sums} />
              <Share part={metricOf(sums, metric)} whole={whole} />
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">Total</th>
            <SumCells sums={total} />
            <td />
          </tr>
        </tfoot>
      </table>
    </ScrollRegion>
  );
}

const SUM_HEADINGS = ['Cost', 'Requests', 'Errors', 'Input', 'of it cached', 'Output'];
const COUNTED = 'Refunds and late prices are counted, too';

/** Over `SumCells`, and over `Share` where there is one. */
export function SumHeadings({ withShare = true }: { withShare?: boolean }) {
  const headings = withShare ? [...SUM_HEADINGS, 'Share'] : SUM_HEADINGS;
  return headings.map((heading) => (
    <th
      key={heading}
      scope="col"
      className="number"
      title={heading === 'Requests' ? COUNTED : undefined}
    >
      {heading}
    </th>
  ));
}

export function Share({ part, whole }: { part: bigint; whole: bigint }) {
  return <td className="number">{share(part, whole)}</td>;
}

export function SumCells({ sums }: { sums: Sums }) {
  return (
    <>
      <td className="number">
        <Amount microdollars={sums.cost_microdollars} />
      </td>
      <td className="number">{formatCount(sums.requests)}</td>
      <td className="number">{formatCount(sums.errors)}</td>
      <td className="number">{formatCount(sums.input_tokens)}</td>
      <td className="number">{formatCount(sums.cache_hit_tokens)}</td>
      <td className="number">{formatCount(sums.output_tokens)}</td>
    </>
  );
}

/** Of a whole that has refunds in it a share says nothing beyond 100%. */
function share(part: bigint, whole: bigint): string {
  if (whole <= 0n || part < 0n || part > whole) return '–';
  const permille = Number((part * 1_000n) / whole);
  if (permille === 0 && part > 0n) return '< 0.1%';
  return `${permille / 10}%`;
}
