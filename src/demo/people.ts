import { uuidOf } from './random.js';

export interface DemoModel {
  provider: string;
  model: string;
  /** Microdollars per million tokens. */
  input: number;
  output: number;
  cacheWrite: number;
  cacheHit: number;
  weight: number;
  /** No price is known: recorded at zero. */
  isUnpriced?: true;
}

const USD = 1_000_000;

export const DEMO_MODELS: readonly [DemoModel, ...DemoModel[]] = [
  {
    provider: 'anthropic',
    model: 'claude-sonnet-4-5',
    input: 3 * USD,
    output: 15 * USD,
    cacheWrite: 3.75 * USD,
    cacheHit: 0.3 * USD,
    weight: 38,
  },
  {
    provider: 'anthropic',
    model: 'claude-haiku-4-5',
    input: 1 * USD,
    output: 5 * USD,
    cacheWrite: 1.25 * USD,
    cacheHit: 0.1 * USD,
    weight: 22,
  },
  {
    provider: 'openai',
    model: 'gpt-5',
    input: 1.25 * USD,
    output: 10 * USD,
    cacheWrite: 1.25 * USD,
    cacheHit: 0.125 * USD,
    weight: 20,
  },
  {
    provider: 'openai',
    model: 'gpt-5-mini',
    input: 0.25 * USD,
    output: 2 * USD,
    cacheWrite: 0.25 * USD,
    cacheHit: 0.025 * USD,
    weight: 14,
  },
  {
    provider: 'google',
    model: 'gemini-2.5-pro',
    input: 1.25 * USD,
    output: 10 * USD,
    cacheWrite: 1.25 * USD,
    cacheHit: 0.31 * USD,
    weight: 5.7,
  },
  {
    provider: 'lab',
    model: 'experimental-preview',
    input: 0,
    output: 0,
    cacheWrite: 0,
    cacheHit: 0,
    weight: 0.05,
    isUnpriced: true,
  },
];

export interface DemoOrganization {
  id: string;
  name: string;
  creditUsd: number;
}

export const DEMO_ORGANIZATIONS: readonly DemoOrganization[] = [
  { id: uuidOf('demo organization acme'), name: 'Acme Robotics', creditUsd: 6_000 },
  { id: uuidOf('demo organization globex'), name: 'Globex Research', creditUsd: 3_000 },
  { id: uuidOf('demo organization initech'), name: 'Initech', creditUsd: 900 },
];

export interface DemoUser {
  id: string;
  name: string;
  email: string;
  creditUsd: number;
  /** Null: on their own. */
  organizationId: string | null;
  /** Of the organization: the first of its users. */
  role: 'owner' | 'member';
  /** Requests on an ordinary working day. */
  requestsPerDay: number;
  /** Hour of the day around which they work, UTC. */
  middayUtc: number;
  /** Share of requests that the organization pays. */
  organizationShare: number;
}

/** What a user's requests are paid with; nobody has the keys themselves. */
export interface DemoUserKey {
  id: string;
  name: string;
  /** Pays for the organization, where there is one. */
  isOrganizations: boolean;
  weight: number;
  /** What its requests are for. */
  projects: readonly [DemoProject, ...DemoProject[]];
}

interface DemoProject {
  id: string | null;
  weight: number;
}

/** Keys of a user, one for the organization's money among them. */
export function keysOf({ id, organizationId }: DemoUser): [DemoUserKey, ...DemoUserKey[]] {
  const key = (name: string, rest: Omit<DemoUserKey, 'id' | 'name'>): DemoUserKey => ({
    id: uuidOf(`demo key ${id} ${name}`),
    name,
    ...rest,
  });
  const own: [DemoUserKey, ...DemoUserKey[]] = [
    key('laptop', {
      isOrganizations: false,
      weight: 7,
      projects: [
        { id: 'website', weight: 3 },
        { id: 'search', weight: 2 },
        { id: null, weight: 1 },
      ],
    }),
    key('nightly', {
      isOrganizations: false,
      weight: 3,
      projects: [{ id: 'evaluation', weight: 1 }],
    }),
  ];
  if (organizationId === null) return own;
  const shared = key('work', {
    isOrganizations: true,
    weight: 1,
    projects: [
      { id: 'support-agent', weight: 3 },
      { id: 'billing', weight: 2 },
    ],
  });
  return [...own, shared];
}

const NAMES = ['ada', 'grace', 'alan', 'edsger', 'barbara', 'donald', 'frances', 'ken'];
const RATES = [110, 40, 22, 90, 12, 30, 6, 18];
const MIDDAYS = [12, 15, 11, 20, 13, 9, 18, 23];

export const DEMO_USERS_DEFAULT = 24;
export const DEMO_USERS_MAX = 200;

/** The first users of an endless list: `demo-ada`, ..., `demo-ada-2`, ... */
export function demoUsers(count: number): DemoUser[] {
  return Array.from({ length: count }, (_, index) => {
    const place = index % NAMES.length;
    const round = Math.floor(index / NAMES.length);
    const name = `${NAMES[place]}${round === 0 ? '' : `-${round + 1}`}`;
    const organization = DEMO_ORGANIZATIONS[index % (DEMO_ORGANIZATIONS.length + 1)];
    return {
      id: `demo-${name}`,
      name,
      email: `${name}@demo.example`,
      creditUsd: 250 + place * 50,
      organizationId: organization?.id ?? null,
      role: index < DEMO_ORGANIZATIONS.length ? 'owner' : 'member',
      requestsPerDay: Math.max(2, Math.round((RATES[place] ?? 10) / (1 + round * 0.6))),
      middayUtc: MIDDAYS[place] ?? 12,
      organizationShare: organization === undefined ? 0 : 0.45,
    };
  });
}
