import { useState } from 'react';
import { Button } from 'react-aria-components';
import { formatCount } from '../amounts.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import { capitalized } from '../sentence.js';
import { SumCells, SumHeadings } from './GroupTable.js';
import { describePeriod } from './periods.js';
import type { UsageSeries } from './series.js';

/** Rows at first, and at each further look. */
const PAGE = 100;

/** The chart's figures as a table, newest first, with the total of all. */
export function PeriodTable({
  series,
  chosen,
  onChoose,
}: {
  series: UsageSeries;
  chosen: number;
  onChoose(start: string): void;
}) {
  const [shown, setShown] = useState(PAGE);
  const newest = series.periods.toReversed();
  return (
    <>
      <ScrollRegion label="Usage as a table" className="tall">
        <table>
          <thead>
            <tr>
              <th scope="col">
                {capitalized(series.grain)} ({series.zone})
              </th>
              <SumHeadings withShare={false} />
            </tr>
          </thead>
          <tbody>
            {newest.slice(0, shown).map(({ start, sums, isUnfinished }, index) => (
              <tr
                key={start}
                className={newest.length - 1 - index === chosen ? 'chosen-row' : undefined}
                data-start={start}
              >
                <th scope="row">
                  <Button
                    className="link-button"
                    {...(index === 0 ? { 'data-return': true } : {})}
                    aria-label={`${describePeriod(start, series.grain)} in detail`}
                    onPress={() => onChoose(start)}
                  >
                    {describePeriod(start, series.grain)}
                  </Button>{' '}
                  {isUnfinished && <span className="chip warning">not over yet</span>}
                </th>
                <SumCells sums={sums} />
              </tr>
            ))}
          </tbody>
          <tfoot>
            <tr>
              <th scope="row">Total</th>
              <SumCells sums={series.total} />
            </tr>
          </tfoot>
        </table>
      </ScrollRegion>
      {newest.length > shown && (
        <Button className="button small" onPress={() => setShown(shown + PAGE)}>
          Show {formatCount(Math.min(PAGE, newest.length - shown))} more of{' '}
          {formatCount(newest.length - shown)}
        </Button>
      )}
    </>
  );
}
