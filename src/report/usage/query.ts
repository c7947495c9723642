import { daysBetween, isDay } from '../../days.js';
import { LedgerError } from '../../errors.js';
import { readUuid } from '../../ids.js';

export const GRAINS = ['hour', 'day', 'week', 'month'] as const;
export type Grain = (typeof GRAINS)[number];

/** What a report may be grouped by, and the column that it is. */
export const GROUPS = {
  model: 'model',
  provider: 'provider',
  key: 'api_key_id',
  project: 'project_id',
  member: 'kilo_user_id',
} as const;
export type Group = keyof typeof GROUPS;

export const TOP_METRICS = ['cost', 'requests', 'tokens'] as const;
export type TopMetric = (typeof TOP_METRICS)[number];

/** Whose usage, and how it is summed. One payer: the user's own usage, or an organization's. */
export interface UsageReportQuery {
  /** Personal usage of this user; or an organization's. */
  kilo_user_id?: string | null;
  organization_id?: string | null;
  /** With `kilo_user_id`: also this user's part of the usage of these organizations. */
  organization_ids?: readonly string[] | null;
  /** Of an organization: this user's part alone. */
  member?: string | null;
  /** What this key paid for alone. */
  api_key_id?: string | null;
  /** Days of the time zone, YYYY-MM-DD, both inclusive. */
  from: string;
  until: string;
  /** IANA name; default UTC. */
  zone?: string | null;
  /** Default `day`. Weeks begin on Monday. */
  grain?: Grain | null;
  /** Up to two. */
  by?: readonly Group[] | null;
  /** With one `by`: also the largest pairs of it and this, over the whole range, of the same snapshot. */
  and_by?: Group | null;
  /** Groups that are told apart, the largest by `metric`; the rest is `other`. Default 10. */
  top?: number | null;
  /** Default `cost`; `tokens`: input and output. */
  metric?: TopMetric | null;
  /** Sums also as many days before `from`. */
  compare?: boolean | null;
}

export interface ValidReportQuery {
  payer: { kind: 'user' | 'organization'; id: string };
  /** Of a user: organizations whose usage by this user counts too. */
  organizationIds: string[];
  member: string | null;
  apiKeyId: string | null;
  from: string;
  until: string;
  days: number;
  zone: string;
  grain: Grain;
  by: Group[];
  andBy: Group | null;
  top: number;
  metric: TopMetric;
  compare: boolean;
}

/** No usage is older, and no offset of a zone was finer than a quarter of an hour since. */
const FIRST_DAY = '2015-01-01';
export const MAX_DAYS: Record<Grain, number> = { hour: 93, day: 1_100, week: 3_700, month: 3_700 };
export const MAX_TOP = 50;
/** Periods times groups: bounds what one answer holds. */
export const MAX_ROWS = 25_000;
const PERIODS_A_DAY: Record<Grain, number> = { hour: 24, day: 1, week: 1 / 7, month: 1 / 28 };

/** @throws LedgerError `invalid_request` naming the field and what is allowed */
export function readReportQuery(query: UsageReportQuery): ValidReportQuery {
  const from = readDay('from', query.from);
  const until = readDay('until', query.until);
  const grain = readChoice('grain', query.grain ?? 'day', GRAINS);
  const top = query.top ?? 10;
  const days = daysBetween(from, until) + 1;
  if (days < 1) throw invalid('from', `lies after until, ${until}; swap them, or make it later`);
  if (days > MAX_DAYS[grain]) {
    throw invalid(
      'until',
      `makes a range of ${days} days; by ${grain} at most ${MAX_DAYS[grain]} days are allowed`,
    );
  }
  if (!Number.isInteger(top) || top < 1 || top > MAX_TOP) {
    throw invalid('top', `must be a whole number from 1 to ${MAX_TOP}`);
  }
  const payer = readPayer(query);
  const organizationIds = readOrganizations(query.organization_ids ?? [], payer.kind);
  const by = readGroups('by', query.by ?? [], payer.kind);
  const groups = by.length === 0 ? 1 : top + 1;
  const periods = Math.ceil(days * PERIODS_A_DAY[grain]) + 1;
  if (periods * groups > MAX_ROWS) {
    const allowed = Math.max(1, Math.floor(MAX_ROWS / periods) - 1);
    throw invalid('top', `must be at most ${allowed} for so many periods, or the range shorter`);
  }
  const member = query.member ?? null;
  if (member !== null && payer.kind === 'user') {
    throw invalid('member', 'goes with organization_id: whose part of its usage');
  }
  return {
    payer,
    organizationIds,
    member: member === null ? null : readText('member', member),
    apiKeyId: query.api_key_id == null ? null : readUuid('api_key_id', query.api_key_id),
    from,
    until,
    days,
    zone: readZone(query.zone ?? 'UTC'),
    grain,
    by,
    andBy: query.and_by == null ? null : readAndBy(query.and_by, by, payer.kind),
    top,
    metric: readChoice('metric', query.metric ?? 'cost', TOP_METRICS),
    compare: query.compare ?? false,
  };
}

/**
 * Of both, whose usage it is would be decided by one, and whose may be read by the other.
 * @throws LedgerError `invalid_request`
 */
export function checkOnePayer({
  kilo_user_id,
  organization_id,
}: Pick<UsageReportQuery, 'kilo_user_id' | 'organization_id'>): void {
  if (organization_id == null || kilo_user_id == null) return;
  throw invalid('kilo_user_id', 'is for personal usage; of an organization, name a member');
}

function readPayer(query: UsageReportQuery): ValidReportQuery['payer'] {
  checkOnePayer(query);
  const { kilo_user_id, organization_id } = query;
  if (organization_id != null) {
    return { kind: 'organization', id: readUuid('organization_id', organization_id) };
  }
  if (kilo_user_id == null) throw invalid('kilo_user_id', 'or organization_id is required');
  return { kind: 'user', id: readText('kilo_user_id', kilo_user_id) };
}

function readOrganizations(ids: readonly string[], payer: 'user' | 'organization'): string[] {
  if (ids.length > 0 && payer === 'organization') {
    throw invalid('organization_ids', 'goes with kilo_user_id; of one, name organization_id');
  }
  return ids.map((id) => readUuid('organization_ids', id));
}

function readGroups(field: string, by: readonly string[], payer: 'user' | 'organization'): Group[] {
  if (!Array.isArray(by)) throw invalid(field, 'must be a list');
  const names = Object.keys(GROUPS) as Group[];
  const groups = by.map((name) => readChoice(field, name, names));
  if (groups.length > 2) throw invalid(field, 'must name at most two groups');
  if (new Set(groups).size < groups.length) throw invalid(field, 'names the same group twice');
  if (payer === 'user' && groups.includes('member')) {
    throw invalid(field, 'may be member only for an organization');
  }
  return groups;
}

function readAndBy(andBy: string, by: readonly Group[], payer: 'user' | 'organization'): Group {
  if (by.length !== 1) throw invalid('and_by', 'goes with one group in by');
  const [, group] = readGroups('and_by', [...by, andBy], payer);
  return group as Group;
}

/** The pairs that a report tells beside its rows: by the fewest periods, which are added up. */
export const pairsQueryOf = (query: ValidReportQuery, andBy: Group): ValidReportQuery => ({
  ...query,
  grain: 'month',
  by: [...query.by, andBy],
  andBy: null,
  compare: false,
});

function readChoice<T extends string>(field: string, value: string, allowed: readonly T[]): T {
  if (allowed.includes(value as T)) return value as T;
  throw invalid(field, `must be one of ${allowed.join(', ')}`);
}

/** A calendar of a zone takes longer to make than many a report. */
const knownZones = new Set<string>();
/** Names are known in any case of their letters. */
const MAX_KNOWN_ZONES = 1_000;

/** IANA names alone: in others, like `+02`, PostgreSQL and the rest of the world mean opposites. */
export function readZone(value: string): string {
  if (knownZones.has(value)) return value;
  try {
    if (typeof value === 'string' && /^[A-Za-z][A-Za-z0-9_+\-/]{0,63}$/.test(value)) {
      new Intl.DateTimeFormat('en', { timeZone: value });
      if (knownZones.size < MAX_KNOWN_ZONES) knownZones.add(value);
      return value;
    }
  } catch {
    // Not known here.
  }
  throw invalid('zone', 'must be an IANA time zone like Europe/Berlin or UTC');
}

function readDay(field: string, value: string): string {
  if (!isDay(value)) throw invalid(field, 'must be a day like 2026-11-22');
  if (value < FIRST_DAY) throw invalid(field, `must be ${FIRST_DAY} or later`);
  return value;
}

function readText(field: string, value: string): string {
  if (typeof value === 'string' && value !== '' && !value.includes('\0')) return value;
  throw invalid(field, 'must be a non-empty string');
}

export function invalid(field: string, problem: string): LedgerError {
  return new LedgerError('invalid_request', `${field} ${problem}`, { details: { field } });
}
