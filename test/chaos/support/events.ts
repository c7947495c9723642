import { randomUUID } from 'node:crypto';
import { createRandom, type Random } from '../../faults/support/scale.js';
import { HOT, LEAVING, ORGANIZATIONS, PEOPLE, WHALE } from './cast.js';

export interface ChaosEvent {
  id: string;
  kilo_user_id: string;
  organization_id: string | null;
  cost: number;
  created_at?: string;
}

export const DAY_MS = 86_400_000;
/** Days before today on which events lie that every process sends. */
export const SHARED_DAYS = 6;
const SHARED_EVENTS = 3_000;
const OLDEST = '2015-01-01T00:00:00.000Z';
const TRILLION = 1_000_000_000_000;

export function utcDay(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

function drawPayer(random: Random): Pick<ChaosEvent, 'kilo_user_id' | 'organization_id'> {
  const isHot = random.next() < 0.45;
  return {
    kilo_user_id: isHot ? HOT : random.pick([...PEOPLE, WHALE, ...LEAVING]),
    organization_id: random.next() < 0.3 ? random.pick(ORGANIZATIONS) : null,
  };
}

function drawCost(random: Random, user: string): number {
  if (user === WHALE) return random.pick([TRILLION, TRILLION, TRILLION - 1, -TRILLION, 1]);
  const kind = random.next();
  if (kind < 0.1) return 0;
  return kind < 0.25 ? -random.between(1, 1_000) : random.between(1, 5_000);
}

/** Half of them now by the database's clock; also midnight's two sides, last week, and 2015. */
function drawTime(random: Random, startMs: number): string | undefined {
  const midnight = Math.floor(startMs / DAY_MS) * DAY_MS;
  const kind = random.next();
  if (kind < 0.5) return undefined;
  if (kind < 0.6) return new Date(midnight - 1).toISOString();
  if (kind < 0.7) return new Date(midnight).toISOString();
  if (kind < 0.72) return OLDEST;
  const back = random.between(1, SHARED_DAYS + 1);
  return new Date(midnight - back * DAY_MS + random.between(0, DAY_MS)).toISOString();
}

/** What other processes send too, under the same id with the same content. */
export function sharedEvent(number: number, startMs: number): ChaosEvent {
  const random = createRandom(`shared ${number}`);
  const digits = Array.from({ length: 32 }, () => random.between(0, 16).toString(16)).join('');
  const payer = drawPayer(random);
  const midnight = Math.floor(startMs / DAY_MS) * DAY_MS;
  const atMs = midnight - random.between(0, SHARED_DAYS + 1) * DAY_MS + random.between(0, DAY_MS);
  return {
    id: digits.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12})$/, '$1-$2-4$3-8$4-$5'),
    ...payer,
    cost: drawCost(random, payer.kilo_user_id),
    created_at: new Date(Math.min(atMs, startMs - random.between(0, 60_000))).toISOString(),
  };
}

export function drawSharedEvent(random: Random, startMs: number): ChaosEvent {
  return sharedEvent(random.between(0, SHARED_EVENTS), startMs);
}

export function drawEvent(random: Random, startMs: number): ChaosEvent {
  if (random.next() < 0.3) return drawSharedEvent(random, startMs);
  const payer = drawPayer(random);
  const createdAt = drawTime(random, startMs);
  return {
    id: randomUUID(),
    ...payer,
    cost: drawCost(random, payer.kilo_user_id),
    ...(createdAt === undefined ? {} : { created_at: createdAt }),
  };
}

/** Never to be recorded. */
export function drawBadEvent(random: Random, startMs: number): ChaosEvent {
  const event: ChaosEvent = { ...drawEvent(random, startMs), id: randomUUID() };
  const spoil: (() => Partial<ChaosEvent>)[] = [
    () => ({ cost: TRILLION + 1 }),
    () => ({ cost: -TRILLION - 1 }),
    () => ({ cost: 0.5 }),
    () => ({ created_at: '2014-12-31T23:59:59.999Z' }),
    () => ({ created_at: new Date(startMs + 365 * DAY_MS).toISOString() }),
    () => ({ kilo_user_id: 'nobody' }),
    () => ({ organization_id: randomUUID(), created_at: new Date(startMs).toISOString() }),
  ];
  return { ...event, ...random.pick(spoil)() };
}

export function drawMetadata(random: Random) {
  if (random.next() < 0.6) return null;
  return {
    http_user_agent: `agent ${random.between(0, 30)}`,
    http_ip: `10.0.0.${random.between(0, 40)}`,
    machine_id: 'a machine',
    session_id: 'a session',
    feature: `feature ${random.between(0, 5)}`,
  };
}
