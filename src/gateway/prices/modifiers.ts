import type { UsageReading } from '../processUsage/types.js';

/** What an answer, or where it came from, names that changes the price of its model. */
export interface Modifier {
  kind: 'service_tier' | 'speed' | 'region' | 'host' | 'search_context';
  value: string;
}

/** What is usual, under the names that providers have for it. */
const USUAL: Readonly<Record<Modifier['kind'], ReadonlySet<string>>> = {
  service_tier: new Set(['default', 'standard', 'auto', 'on_demand', 'standard_only', 'normal']),
  speed: new Set(['standard', 'normal', 'default']),
  region: new Set(['global', 'not_available', 'default', 'none']),
  host: new Set(),
  search_context: new Set(),
};

/** Endpoints of one region, where a provider charges for that. */
const REGIONAL_HOSTS: readonly RegExp[] = [
  /^[a-z]{2}\.api\.openai\.com$/,
  // Vertex: one region, or several of one continent; the global endpoint has no prefix.
  /^[a-z]+(-[a-z]+\d+)?-aiplatform\.googleapis\.com$/,
  /^aiplatform\.[a-z]+(-[a-z]+\d+)?\.rep\.googleapis\.com$/,
];

/** What an answer says of each kind, in lower case; null = nothing. */
export type Named = Readonly<Record<Modifier['kind'], string | null>>;

export function namesOf(reading: Partial<UsageReading>, upstreamHost: string | null): Named {
  const plain = (text: string | null | undefined) => text?.toLowerCase() || null;
  return {
    service_tier: plain(reading.serviceTier),
    speed: plain(reading.speed),
    region: plain(reading.region),
    search_context: plain(reading.searchContext),
    host: plain(upstreamHost?.replace(/:\d+$/, '')),
  };
}

/** Of what was named, that which is not as usual. */
export function modifiersOf(named: Named): Modifier[] {
  return (Object.keys(USUAL) as Modifier['kind'][]).flatMap((kind) => {
    const value = named[kind];
    if (value === null || USUAL[kind].has(value)) return [];
    if (kind === 'host' && !REGIONAL_HOSTS.some((each) => each.test(value))) return [];
    return [{ kind, value }];
  });
}
