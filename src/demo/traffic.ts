import type { UsageEvent, UsageMetadata } from '../record/types.js';
import { DEMO_MODELS, type DemoModel, type DemoUser, type DemoUserKey, keysOf } from './people.js';
import { SeededRandom, uuidOf } from './random.js';

/** Requests of a working day by weekday, Sunday first. */
const WEEKDAY_SHARE = [0.22, 1, 1.12, 1.15, 1.08, 0.86, 0.3] as const;
const DAY_MS = 86_400_000;
const ERROR_SHARE = 0.018;
const REFUND_SHARE = 0.002;
const EDITORS: readonly [{ name: string; weight: number }, ...{ name: string; weight: number }[]] =
  [
    { name: 'vscode', weight: 6 },
    { name: 'jetbrains', weight: 3 },
    { name: 'cli', weight: 2 },
  ];

/**
 * Everything that one user does on one UTC day, in the order of time. Follows from the user's id
 * and the day alone.
 */
export function dayOfTraffic(user: DemoUser, day: string): UsageEvent[] {
  const random = new SeededRandom(`${user.id} ${day}`);
  const startMs = Date.parse(`${day}T00:00:00Z`);
  const events: UsageEvent[] = [];
  const count = requestCount(user, startMs, random);
  for (let index = 0; index < count; index++) {
    const event = request(user, `${user.id} ${day} ${index}`, startMs, random);
    events.push(event);
    const refund = refundOf(event, random);
    if (refund !== null) events.push(refund);
  }
  return events.sort((a, b) => String(a.created_at).localeCompare(String(b.created_at)));
}

function requestCount(user: DemoUser, startMs: number, random: SeededRandom): number {
  const weekday = new Date(startMs).getUTCDay();
  // Use grows slowly, projects come and go over some weeks, and some days are off.
  const weeks = startMs / (7 * DAY_MS);
  const growth = 1 + 0.25 * Math.sin(weeks / 6 + user.middayUtc);
  const isOff = random.next() < (weekday === 0 || weekday === 6 ? 0.45 : 0.05);
  if (isOff) return 0;
  const expected = user.requestsPerDay * (WEEKDAY_SHARE[weekday] ?? 1) * growth;
  return Math.round(random.logNormal(expected, 0.25));
}

function request(user: DemoUser, key: string, startMs: number, random: SeededRandom): UsageEvent {
  const model = random.pick(DEMO_MODELS);
  const hasError = random.next() < ERROR_SHARE;
  const tokens = requestTokens(random, hasError);
  const isOrganizations = random.next() < user.organizationShare;
  // Around the middle of the user's day, a working day wide.
  const hour = user.middayUtc + (random.next() + random.next() + random.next() - 1.5) * 7;
  const ms = Math.floor(((hour + 24) % 24) * 3_600_000) % DAY_MS;
  return {
    id: uuidOf(`demo request ${key}`),
    kilo_user_id: user.id,
    organization_id: isOrganizations ? user.organizationId : null,
    created_at: new Date(startMs + ms).toISOString(),
    provider: model.provider,
    model: model.model,
    requested_model: `${model.provider}/${model.model}`,
    inference_provider: model.provider,
    cost: hasError ? 0 : priceOf(model, tokens),
    ...tokens,
    ...attributionOf(user, key, isOrganizations),
    has_error: hasError,
    metadata: metadataOf(model, hasError, random),
  };
}

/** By numbers of its own, so that what is drawn beside it stays what it was. */
function attributionOf(user: DemoUser, key: string, isOrganizations: boolean) {
  const random = new SeededRandom(`attribution ${key}`);
  const keys = keysOf(user).filter((each) => each.isOrganizations === isOrganizations);
  const { id, projects } = random.pick(keys as [DemoUserKey, ...DemoUserKey[]]);
  return { api_key_id: id, project_id: random.pick(projects).id };
}

interface Tokens {
  input_tokens: number;
  output_tokens: number;
  cache_write_tokens: number;
  cache_hit_tokens: number;
}

function requestTokens(random: SeededRandom, hasError: boolean): Tokens {
  const input = Math.min(180_000, Math.round(random.logNormal(9_000, 1.1)));
  const output = hasError ? 0 : Math.min(16_000, Math.round(random.logNormal(420, 1)));
  const isCached = random.next() < 0.6;
  const hit = isCached ? Math.floor(input * (0.55 + 0.4 * random.next())) : 0;
  const write = isCached ? Math.floor((input - hit) * random.next()) : 0;
  return {
    input_tokens: input,
    output_tokens: output,
    cache_write_tokens: write,
    cache_hit_tokens: hit,
  };
}

/** Microdollars, rounded once. */
function priceOf(model: DemoModel, tokens: Tokens): number {
  const plain = tokens.input_tokens - tokens.cache_hit_tokens - tokens.cache_write_tokens;
  return Math.round(
    (plain * model.input +
      tokens.cache_hit_tokens * model.cacheHit +
      tokens.cache_write_tokens * model.cacheWrite +
      tokens.output_tokens * model.output) /
      1_000_000,
  );
}

function metadataOf(model: DemoModel, hasError: boolean, random: SeededRandom): UsageMetadata {
  return {
    editor_name: random.pick(EDITORS).name,
    feature: 'demo',
    status_code: hasError ? (random.next() < 0.6 ? 429 : 500) : 200,
    streamed: random.next() < 0.8,
    latency: Math.round(random.logNormal(700, 0.5)),
    ...(model.isUnpriced && !hasError ? { unpriced: true } : {}),
  };
}

/** Some dear requests are given back, whole, some minutes later, on the same day. */
function refundOf(event: UsageEvent, random: SeededRandom): UsageEvent | null {
  if (random.next() >= REFUND_SHARE || event.cost < 20_000) return null;
  const at = Date.parse(String(event.created_at));
  const endOfDay = Math.floor(at / DAY_MS) * DAY_MS + DAY_MS - 1;
  return {
    id: uuidOf(`demo refund ${event.id}`),
    kilo_user_id: event.kilo_user_id,
    organization_id: event.organization_id ?? null,
    created_at: new Date(Math.min(at + 600_000, endOfDay)).toISOString(),
    provider: event.provider ?? null,
    model: event.model ?? null,
    requested_model: event.requested_model ?? null,
    api_key_id: event.api_key_id ?? null,
    project_id: event.project_id ?? null,
    cost: -event.cost,
    metadata: { adjusts_usage_id: event.id ?? null, feature: 'demo' },
  };
}
