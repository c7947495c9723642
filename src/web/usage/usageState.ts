import { isZone } from '../zones.js';
import { METRICS, type Metric } from './metrics.js';
import {
  type DayRange,
  defaultGrain,
  type Grain,
  grainsOf,
  largestTop,
  PRESETS,
  type Preset,
  presetRange,
  TOPS,
} from './ranges.js';

const GROUPINGS = ['none', 'model', 'provider', 'key', 'project', 'member'] as const;
export type Grouping = (typeof GROUPINGS)[number];
export type Form = 'chart' | 'table';

/** What is shown, all of it in the URL: reload, back and a shared link show the same. */
export interface UsageState {
  /** `all` (every scope of the user), `personal`, or an organization's id. */
  scope: string;
  by: Grouping;
  /** Each group of `by` by this too, in a table of its own. */
  andBy: Grouping;
  metric: Metric;
  preset: Preset;
  /** Of a custom range; as typed, so maybe no days. */
  from: string;
  until: string;
  /** Null: the one that suits the range. */
  grain: Grain | null;
  /** IANA name. */
  zone: string;
  isCompared: boolean;
  form: Form;
  /** Start of the period that is told in detail. */
  at: string | null;
  /** Only what this key paid for; only this member's part. */
  key: string | null;
  member: string | null;
  top: number;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const DEFAULT_STATE: UsageState = {
  scope: 'all',
  by: 'model',
  andBy: 'none',
  metric: 'cost',
  preset: '1m',
  from: '',
  until: '',
  grain: null,
  zone: 'UTC',
  isCompared: true,
  form: 'chart',
  at: null,
  key: null,
  member: null,
  top: TOPS[0],
};

/** What is not understood is as if it were not there. */
export function readState(search: URLSearchParams): UsageState {
  const text = (name: string) => search.get(name);
  const zone = text('zone') ?? undefined;
  const top = Number(text('top'));
  return {
    scope: readScope(text('scope')),
    by: choice(text('by'), GROUPINGS) ?? DEFAULT_STATE.by,
    andBy: choice(text('and'), GROUPINGS) ?? DEFAULT_STATE.andBy,
    metric: choice(text('metric'), METRICS) ?? DEFAULT_STATE.metric,
    preset:
      choice(
        text('range'),
        PRESETS.map(({ id }) => id),
      ) ?? DEFAULT_STATE.preset,
    from: text('from') ?? '',
    until: text('until') ?? '',
    grain: choice(text('grain'), ['hour', 'day', 'week', 'month']),
    zone: isZone(zone) ? zone : DEFAULT_STATE.zone,
    isCompared: text('compare') !== 'off',
    form: text('form') === 'table' ? 'table' : 'chart',
    at: text('at'),
    key: readId(text('key')),
    member: text('member'),
    top: TOPS.find((each) => each === top) ?? DEFAULT_STATE.top,
  };
}

/** Where the page of the list of requests begins. */
export const REQUESTS_AFTER = 'rafter';
/** Which requests these are: with another one the place in their list is none. */
const WHICH_REQUESTS = [
  'scope',
  'preset',
  'from',
  'until',
  'grain',
  'zone',
  'at',
  'key',
  'member',
] as const satisfies readonly (keyof UsageState)[];

/**
 * Writes what differs from the default; leaves parameters of others alone, but for the place in a list of
 * what is not shown any more.
 */
export function writeState(search: URLSearchParams, state: UsageState): URLSearchParams {
  const next = new URLSearchParams(search);
  const before = readState(search);
  if (WHICH_REQUESTS.some((name) => before[name] !== state[name])) next.delete(REQUESTS_AFTER);
  const isCustom = state.preset === 'custom';
  const values: Record<string, string | null> = {
    scope: state.scope === DEFAULT_STATE.scope ? null : state.scope,
    by: state.by === DEFAULT_STATE.by ? null : state.by,
    and: state.andBy === DEFAULT_STATE.andBy ? null : state.andBy,
    metric: state.metric === DEFAULT_STATE.metric ? null : state.metric,
    range: state.preset === DEFAULT_STATE.preset ? null : state.preset,
    from: isCustom ? state.from : null,
    until: isCustom ? state.until : null,
    grain: state.grain,
    zone: state.zone === DEFAULT_STATE.zone ? null : state.zone,
    compare: state.isCompared ? null : 'off',
    form: state.form === 'chart' ? null : state.form,
    at: state.at,
    key: state.key,
    member: state.member,
    top: state.top === DEFAULT_STATE.top ? null : String(state.top),
  };
  for (const [name, value] of Object.entries(values)) {
    if (value === null) next.delete(name);
    else next.set(name, value);
  }
  return next;
}

export function rangeOf({ preset, from, until }: UsageState, today: string): DayRange {
  return preset === 'custom' ? { from, until } : presetRange(preset, today);
}

/** The grain in force: the chosen one where the range allows it. */
export function grainOf({ grain }: UsageState, range: DayRange): Grain {
  return grain !== null && grainsOf(range).includes(grain) ? grain : defaultGrain(range);
}

/** Input of `usage.report`, but for whose usage. */
export function toReportQuery(state: UsageState, range: DayRange) {
  const grain = grainOf(state, range);
  const [, andBy] = pairOf(state) ?? [];
  return {
    ...range,
    grain,
    zone: state.zone,
    by: state.by === 'none' ? [] : [state.by],
    ...(andBy === undefined ? {} : { and_by: andBy }),
    metric: state.metric,
    top: Math.min(state.top, largestTop(range, grain)),
    compare: state.isCompared,
    ...(state.key === null ? {} : { api_key_id: state.key }),
  };
}

/** What the groups are told apart by too; null: by nothing else. */
export function pairOf({ by, andBy }: UsageState) {
  if (by === 'none' || andBy === 'none' || by === andBy) return null;
  return [by, andBy] as const;
}

/** Whose usage a state is about. */
export function toScope(state: UsageState, kiloUserId: string, isOwner: boolean) {
  if (state.scope === 'all') return { kilo_user_id: kiloUserId, all_scopes: true };
  if (state.scope === 'personal') return { kilo_user_id: kiloUserId };
  return {
    organization_id: state.scope,
    // All of it is for owners.
    ...(state.member !== null ? { member: state.member } : isOwner ? {} : { member: kiloUserId }),
  };
}

/** Is an organization's usage shown, and so that of several members. */
export function isOrganization({ scope }: Pick<UsageState, 'scope'>): boolean {
  return scope !== 'all' && scope !== 'personal';
}

/**
 * What a link asks for and its scope does not have is left out, and said: members are an
 * organization's.
 */
export function withinScope(state: UsageState): { state: UsageState; remark: string | null } {
  const { by: asked, andBy, member } = state;
  if (isOrganization(state) || (asked !== 'member' && andBy !== 'member' && member === null)) {
    return { state, remark: null };
  }
  const by = asked === 'member' ? DEFAULT_STATE.by : asked;
  return {
    state: { ...state, by, andBy: andBy === 'member' ? DEFAULT_STATE.andBy : andBy, member: null },
    remark:
      'Members are those of an organization: choose one as the scope. ' +
      `Shown is this user's usage, by ${by === 'none' ? 'nothing' : by}.`,
  };
}

function readScope(text: string | null): string {
  return text === 'personal' ? text : (readId(text) ?? DEFAULT_STATE.scope);
}

function readId(text: string | null): string | null {
  return text !== null && UUID.test(text) ? text.toLowerCase() : null;
}

function choice<T extends string>(value: string | null, choices: readonly T[]): T | null {
  return choices.find((each) => each === value) ?? null;
}
