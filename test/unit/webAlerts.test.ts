import { describe, expect, it } from 'vitest';
import {
  type Alert,
  type Delivery,
  describeAlert,
  describeEvent,
  describeTry,
  readPercents,
} from '../../src/web/alerts/alert.js';

const name = (id: string) => `Budget ${id}`;

describe('what an alert tells', () => {
  it('is said of each kind, with its amounts', () => {
    const of = (alert: Partial<Alert>) => describeAlert(alert as Alert, name);
    expect(of({ kind: 'budget', budget_id: 'b', thresholds_percent: [50, 100] })).toBe(
      'Budget b: at 50%, 100%',
    );
    expect(of({ kind: 'balance', below_microdollars: 5_000_000 })).toBe('Balance: below $5.00');
    const spend = { kind: 'spend' as const, thresholds_percent: [300], floor_microdollars: 10 };
    expect(of(spend)).toBe('An hour: at 300% of the usual, from $0.00001');
  });

  it('is said of each event, exact past 2^53', () => {
    const of = (event: Partial<Delivery>) => describeEvent(event as Delivery, name);
    const spent = { spent_microdollars: '9007199254740993000' as never };
    expect(of({ kind: 'budget', budget_id: 'b', threshold: 80, ...spent })).toBe(
      'Budget b: 80%, $9,007,199,254,740.99 spent',
    );
    expect(of({ kind: 'balance', threshold: 1_500_000, ...spent })).toBe('Balance below $1.50');
    expect(of({ kind: 'spend', threshold: 300, ...spent })).toContain('300% of the usual');
  });

  it('came to what the last try says', () => {
    const of = (delivery: Partial<Delivery>) => describeTry(delivery as Delivery);
    expect(of({ attempts: 0 })).toBeNull();
    expect(of({ attempts: 1, last_status: 503, last_error: null })).toBe('HTTP 503');
    expect(of({ attempts: 1, last_status: null, last_error: 'timeout' })).toBe('timeout');
    expect(of({ attempts: 1, last_status: null, last_error: null })).toBe('no answer');
  });
});

it('reads percents as people write them; what is none is refused by the server', () => {
  expect(readPercents('50, 80 100%')).toEqual([50, 80, 100]);
  expect(readPercents(' ')).toEqual([]);
  expect(readPercents('half; 1e999')).toEqual([-1, -1]);
});
