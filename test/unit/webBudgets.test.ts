import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Failure } from '../../src/web/api.js';
import {
  type Budget,
  baseLimitOf,
  describeUse,
  editableUsd,
  inOrder,
  isRaised,
  subjectOf,
  useOf,
} from '../../src/web/budgets/budget.js';
import {
  findSame,
  SUBJECTS_OF_ALL,
  subjectsOfOrganization,
  subjectsOfUser,
  toSubject,
} from '../../src/web/budgets/subjects.js';
import { problemOf, typedUsd } from '../../src/web/formValues.js';
import type { Key } from '../../src/web/keys/key.js';
import { formatLocal, instantAtMs, localTime, shownZone } from '../../src/web/zones.js';

const budget = (
  limit: number | bigint,
  spent: number | bigint | string,
  held: number | bigint = 0,
) => ({
  limit_microdollars: limit as number,
  spent_microdollars: spent as number,
  held_microdollars: held as number,
});

describe('the use of a budget', () => {
  it('is drawn as used, over, held and left, which fill the bar', () => {
    const amount = fc.oneof(
      fc.integer({ min: 0, max: 1_000 }).map(BigInt),
      fc.bigInt({ min: 0n, max: 10n ** 19n }),
    );
    fc.assert(
      fc.property(amount, amount, amount, (limit, spent, held) => {
        const use = useOf(budget(limit, spent, held));
        const parts = [use.used, use.over, use.held, use.left];
        expect(parts.every((part) => part >= 0 && part <= 1)).toBe(true);
        expect(parts.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 4);
        expect(use.isOver).toBe(spent > limit);
        expect(use.over > 0 && !use.isOver).toBe(false);
        if (spent + held <= limit && limit > 0n) expect(use.limit).toBe(1);
      }),
    );
  });

  it('is told in words, also what is over, and of a limit of nothing', () => {
    expect(describeUse(budget(1_000, 620, 50))).toBe('62% of the limit used, 5% held');
    expect(describeUse(budget(1_000, 1_300, 50))).toBe('130% of the limit used: over');
    expect(describeUse(budget(0, 0))).toBe('nothing may be spent');
    expect(describeUse(budget(0, 1))).toBe('nothing may be spent, and something was');
    expect(describeUse(budget(1_000, -5))).toBe('0% of the limit used, 0% held');
    expect(describeUse(budget(1, '9007199254740993'))).toContain('900,719,925,474,099,300%');
  });

  it('is near its end from four fifths on, held counted in', () => {
    const levelOf = (spent: number, held: number) => useOf(budget(1_000, spent, held)).level;
    expect([levelOf(700, 99), levelOf(700, 100), levelOf(700, 300)]).toEqual([
      'fine',
      'near',
      'reached',
    ]);
  });
});

describe('amounts of a form', () => {
  it('are what the server reads, and come back as they went', () => {
    expect([20_000_000n, 12_500_000n, 1n, 0n, 1_230_001n].map(editableUsd)).toEqual([
      '20',
      '12.50',
      '0.000001',
      '0',
      '1.230001',
    ]);
    expect([' $20 ', '$ 1.5', '1,5'].map(typedUsd)).toEqual(['20', '1.5', '1,5']);
  });

  it('know a limit without its raise, and a raise of nothing for none', () => {
    const raised = {
      limit_microdollars: 5_000_000,
      raise_microdollars: 2_000_000,
      raise_until: '2999-01-01T00:00:00Z',
    } as Budget;
    expect([baseLimitOf(raised), isRaised(raised)]).toEqual([3_000_000n, true]);
    expect(isRaised({ ...raised, raise_microdollars: 0 })).toBe(false);
    expect(isRaised({ ...raised, raise_until: null })).toBe(false);
  });

  it('are refused at their field, in a sentence', () => {
    const failure: Failure = {
      code: 'invalid_request',
      message: 'limit_usd must be an amount in USD, like 12.50',
      details: { field: 'limit_usd' },
    };
    expect(problemOf(failure, 'limit_usd')).toBe('Must be an amount in USD, like 12.50.');
    expect(problemOf(failure, 'window')).toBeNull();
    expect(problemOf(null, 'limit_usd')).toBeNull();
  });
});

describe('what a new budget may limit', () => {
  const key = (id: string, more: Partial<Key> = {}) =>
    ({ id, name: id, key_prefix: 'md_', organization_id: null, revoked_at: null, ...more }) as Key;
  const acme = { id: 'acme', name: 'Acme', role: 'member' };
  const keys = [key('a'), key('b', { organization_id: 'acme' }), key('c', { revoked_at: 'then' })];
  const nothing = { id: '', kilo_user_id: '', organization_id: '' };
  const given = (choices: ReturnType<typeof subjectsOfUser>) =>
    choices.map((choice) => toSubject(choice, { ...nothing, id: ' x ' }));

  it('is for a user what they pay, for a member what is theirs, for an owner all', () => {
    expect(given(subjectsOfUser('ada', true, keys))).toEqual([
      { scope: 'user', id: 'ada' },
      { scope: 'key', id: 'x' },
      { scope: 'project', id: 'x', kilo_user_id: 'ada' },
    ]);
    expect(given(subjectsOfOrganization(acme, 'ada', { own: keys, shared: [] }))).toEqual([
      { scope: 'member', id: 'ada', organization_id: 'acme' },
      { scope: 'key', id: 'x' },
    ]);
    const owned = { ...acme, role: 'owner' };
    expect(given(subjectsOfOrganization(owned, 'ada', { own: [], shared: keys }))).toEqual([
      { scope: 'organization', id: 'acme' },
      { scope: 'member', id: 'x', organization_id: 'acme' },
      { scope: 'key', id: 'x' },
      { scope: 'project', id: 'x', organization_id: 'acme' },
    ]);
    const [, ofKey] = subjectsOfUser('ada', true, keys);
    expect(ofKey?.id).toMatchObject({ options: [{ id: 'a', text: 'a' }] });
  });

  it('is for an administrator anything, who pays where that is to be said', () => {
    const typed = { id: 'x', kilo_user_id: '', organization_id: ' acme ' };
    expect(SUBJECTS_OF_ALL.map((choice) => toSubject(choice, typed))).toEqual([
      { scope: 'user', id: 'x' },
      { scope: 'organization', id: 'x' },
      { scope: 'member', id: 'x', organization_id: 'acme' },
      { scope: 'key', id: 'x' },
      { scope: 'project', id: 'x', organization_id: 'acme' },
    ]);
  });

  it('is there already if the same setter has set it for the same window', () => {
    const of = (scope: string, more: Partial<Budget>) =>
      ({
        ...{ scope, window: 'month', set_by: 'admin', is_balance: false, api_key_id: null },
        ...{ project_id: null, kilo_user_id: null, organization_id: null, ...more },
      }) as Budget;
    const user = of('user', { kilo_user_id: 'x' });
    const known = [
      of('user', { kilo_user_id: 'x', is_balance: true }),
      of('user', { kilo_user_id: 'x', window: 'day' }),
      of('user', { kilo_user_id: 'x', set_by: 'user' }),
      of('member', { kilo_user_id: 'x', organization_id: 'other' }),
      of('project', { project_id: 'x', kilo_user_id: 'x' }),
      user,
      of('organization', { organization_id: 'x' }),
      of('member', { kilo_user_id: 'x', organization_id: 'acme' }),
      of('key', { api_key_id: 'x', kilo_user_id: 'ada' }),
      of('project', { project_id: 'x', organization_id: 'acme' }),
    ];
    const typed = { id: 'x', kilo_user_id: '', organization_id: 'acme' };
    const found = SUBJECTS_OF_ALL.map((choice) =>
      findSame(known, { ...toSubject(choice, typed), window: 'month' }, 'admin'),
    );
    expect(found).toEqual(known.slice(known.indexOf(user)));
    const week = { scope: 'user', id: 'x', window: 'week' };
    expect(findSame(known, week, 'admin')).toBeUndefined();
  });

  it('is listed from the whole to its parts, what is of one thing together', () => {
    const of = (scope: string, window: string, id: string, more: Partial<Budget> = {}) =>
      ({ scope, window, id, api_key_id: null, project_id: null, ...more }) as Budget;
    const ordered = inOrder([
      of('project', 'day', '1', { project_id: 'p' }),
      of('key', 'month', '2', { api_key_id: 'b' }),
      of('key', 'total', '3', { api_key_id: 'a' }),
      of('key', 'week', '4', { api_key_id: 'a' }),
      of('organization', 'total', '5'),
      of('member', 'day', '6', { kilo_user_id: 'ada' }),
      of('organization', 'day', '7'),
    ]);
    expect(ordered.map(({ id }) => id).join('')).toBe('7564321');
  });

  it('is named by what people know it by', () => {
    const names = { key: () => 'laptop', organization: 'Acme', self: 'ada' };
    const of = (more: Partial<Budget>) => subjectOf(more as Budget, names);
    expect(of({ scope: 'user', kilo_user_id: 'ada' })).toEqual({ what: 'You', name: null });
    expect(of({ scope: 'member', kilo_user_id: 'bo' })).toEqual({ what: 'Member', name: 'bo' });
    expect(of({ scope: 'key', api_key_id: 'k' })).toEqual({ what: 'Key', name: 'laptop' });
    expect(of({ scope: 'project', project_id: 'p' })).toEqual({ what: 'Project', name: 'p' });
    expect(of({ scope: 'organization', organization_id: 'o' }).name).toBe('Acme');
  });
});

describe('local times of a zone', () => {
  it('name the instant that they were made of, but for the hour that comes twice', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('UTC', 'Europe/Berlin', 'Asia/Kathmandu', 'America/Los_Angeles'),
        fc.integer({ min: 1_700_000_000, max: 1_900_000_000 }),
        (zone, seconds) => {
          const minuteMs = Math.floor(seconds / 60) * 60_000;
          const local = localTime(minuteMs, zone).slice(0, 16);
          expect(localTime(instantAtMs(local, zone), zone).slice(0, 16)).toBe(local);
        },
      ),
    );
    expect(instantAtMs('2026-12-01T00:00', 'Europe/Berlin')).toBe(
      Date.parse('2026-11-30T23:00:00Z'),
    );
    expect(instantAtMs('', 'UTC')).toBeNaN();
    expect(formatLocal(Date.parse('2026-11-30T23:00:00Z'), 'Europe/Berlin')).toBe(
      '1 Dec 2026, 00:00',
    );
  });

  it('are those of UTC in a zone that the server knows and the browser does not', () => {
    const atMs = Date.parse('2026-11-30T23:00:00Z');
    for (const zone of ['posix/Europe/Berlin', 'localtime', 'America/Newly_Made']) {
      expect(() => formatLocal(atMs, zone)).toThrow(RangeError);
      expect(shownZone(zone)).toBe('UTC');
      expect(formatLocal(atMs, shownZone(zone))).toBe('30 Nov 2026, 23:00');
    }
    expect(shownZone('Europe/Berlin')).toBe('Europe/Berlin');
  });
});
