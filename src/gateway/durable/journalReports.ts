import type { Journal } from '../../journal/journal.js';
import type { DamageReport } from '../../journal/readAhead.js';
import type { DurableMetrics } from './metrics.js';
import type { Log } from './options.js';

/** Told of the journal of a slot, our own or that of a dead process: nothing is lost in silence (I9). */
interface Told {
  slot: number;
  metrics: DurableMetrics;
  log: Log;
}

/** What was found when it was opened. */
export function reportOpening({ openReport: report }: Journal, { slot, metrics, log }: Told): void {
  metrics.tornTails.inc(report.tornTails);
  metrics.lostRecords.inc(report.missingRecords);
  const found = { slot, ...report };
  if (report.corruptions > 0 || report.missingRecords > 0) {
    log.error(found, 'the journal was damaged; copies of the bytes were set aside');
  } else if (report.records > 0 || report.tornTails > 0) {
    log.warn(found, 'the journal of an earlier process will be drained');
  }
}

/** What turned out to be damaged when it was read. */
export function reportDamage(damage: DamageReport, { slot, metrics, log }: Told): void {
  metrics.lostRecords.inc(damage.missingRecords);
  log.error({ slot, ...damage }, 'journal records are damaged; copies of the bytes were set aside');
}
