import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { KnownPayers } from '../../src/record/knownPayers.js';

const ORGANIZATION = '00000000-0000-4000-8000-00000000000a';
const PAYERS = {
  'a user': { kilo_user_id: 'u', organization_id: null },
  'an organization': { kilo_user_id: 'u', organization_id: ORGANIZATION },
};

describe('what a process believes of payers', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it.each(Object.entries(PAYERS))('ends, however busy %s is', (_, payer) => {
    const known = new KnownPayers();
    expect(known.has(payer)).toBe(false);
    known.add(payer);
    let isKnownMs = 0;
    // As the recorder does: each write notes its payer, whether it proved that there is one or not.
    for (; known.has(payer) && isKnownMs < 3_600_000; isKnownMs += 1_000) {
      known.add(payer);
      vi.advanceTimersByTime(1_000);
    }
    expect(isKnownMs).toBe(60_000);
    known.add(payer);
    expect(known.has(payer)).toBe(true);
  });

  it('is apart for a user, its organization, and another member', () => {
    const known = new KnownPayers();
    known.add(PAYERS['an organization']);
    expect(known.has(PAYERS['a user'])).toBe(true);
    expect(known.has({ kilo_user_id: 'v', organization_id: ORGANIZATION })).toBe(false);
    expect(known.has({ kilo_user_id: 'v', organization_id: null })).toBe(false);
    expect(known.has({ kilo_user_id: ORGANIZATION, organization_id: null })).toBe(false);
    known.clear();
    expect(known.has(PAYERS['a user'])).toBe(false);
  });
});
