import { Button } from 'react-aria-components';
import { Amount } from '../components/Amount.js';
import { ScrollRegion } from '../components/ScrollRegion.js';
import type { DailySeries } from '../dailySeries.js';
import { formatDayLong } from '../days.js';

/** The chart's figures as a table, newest first, with the chart's total. */
export function DayTable({
  series,
  chosenDay,
  onChoose,
}: {
  series: DailySeries;
  chosenDay: string | null;
  onChoose(day: string): void;
}) {
  return (
    <ScrollRegion label="Daily spend as a table" className="tall">
      <table>
        <thead>
          <tr>
            <th scope="col">Day (UTC)</th>
            <th scope="col" className="number">
              Spend
            </th>
          </tr>
        </thead>
        <tbody>
          {series.days.toReversed().map(({ day, microdollars }) => (
            <tr key={day} className={day === chosenDay ? 'chosen-row' : undefined} data-day={day}>
              <th scope="row">
                <Button
                  className="link-button"
                  aria-label={`${formatDayLong(day)} by model`}
                  onPress={() => onChoose(day)}
                >
                  {formatDayLong(day)}
                </Button>
              </th>
              <td className="number">
                <Amount microdollars={microdollars} />
              </td>
            </tr>
          ))}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">Total</th>
            <td className="number">
              <Amount microdollars={series.totalMicrodollars} />
            </td>
          </tr>
        </tfoot>
      </table>
    </ScrollRegion>
  );
}
