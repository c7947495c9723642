import type { ApproachDefinition, OpenApproach } from './approach.js';
import { checkApproach } from './approach.js';
import type { Bench, BenchDatabase } from './bench.js';
import { type Cost, type CostMeter, costPerEvent, NO_COST } from './cost.js';
import { type BenchEvent, eventSource, type Population } from './population.js';
import type { ApproachFigures, Check } from './scenario.js';
import { median, quantilesOf, round } from './statistics.js';

export interface SliceFigures {
  events: number;
  elapsedMs: number;
  settledMs: number;
  latenciesMs: number[];
  /** Per event, until its totals were up to date. */
  cost: Cost;
}

/**
 * A closed loop: `callers` calls in flight until the time is over, then the approach brings its
 * totals up to date. `elapsedMs` ends with the last answer, so every event counted was durable.
 */
export async function runSlice(
  open: OpenApproach,
  nextEvent: () => BenchEvent,
  durationMs: number,
  meter?: CostMeter,
): Promise<SliceFigures> {
  const { definition, approach, acknowledged } = open;
  const eventsPerCall = definition.eventsPerCall ?? 1;
  const latenciesMs: number[] = [];
  let events = 0;
  const before = await meter?.read();
  approach.resume?.();
  const startedAt = performance.now();
  const endsAt = startedAt + durationMs;
  const caller = async () => {
    for (let calledAt = startedAt; calledAt < endsAt; ) {
      const batch = Array.from({ length: eventsPerCall }, nextEvent);
      await approach.write(batch);
      const answeredAt = performance.now();
      latenciesMs.push(answeredAt - calledAt);
      calledAt = answeredAt;
      events += batch.length;
      for (const event of batch) acknowledged.costMicrodollars += event.cost;
    }
  };
  await Promise.all(Array.from({ length: definition.callers }, caller));
  const elapsedMs = performance.now() - startedAt;
  await approach.settle?.();
  acknowledged.events += events;
  const settledMs = performance.now() - startedAt;
  const cost = costPerEvent(before ?? NO_COST, (await meter?.read()) ?? NO_COST, events);
  return { events, elapsedMs, settledMs, latenciesMs, cost };
}

export interface Schedule {
  rounds: number;
  sliceMs: number;
}

/** Slices of 1.5 s; `--seconds` sets how many of them. */
export function scheduleOf(bench: Bench, seconds: number): Schedule {
  const sliceMs = bench.pick(1_500, 400);
  const perApproachMs = (bench.options.seconds ?? bench.pick(seconds, 0.8)) * 1_000;
  return { rounds: Math.max(2, Math.round(perApproachMs / sliceMs)), sliceMs };
}

/** Opens each approach on a database of its own, all alike. */
export async function openApproaches(
  databases: readonly BenchDatabase[],
  definitions: readonly ApproachDefinition[],
): Promise<OpenApproach[]> {
  const opened: OpenApproach[] = [];
  for (const [index, definition] of definitions.entries()) {
    const { url, admin, lookups } = databases[index] as BenchDatabase;
    const approach = await definition.open({ url, admin, lookups });
    const acknowledged = { events: 0, costMicrodollars: 0 };
    opened.push({ definition, approach, admin, acknowledged });
  }
  return opened;
}

export interface ComparedApproaches {
  figures: ApproachFigures[];
  checks: Check[];
}

/**
 * Measures approaches side by side: every round gives each one slice, in an order that turns, so
 * that a slow moment of the machine, or what one leaves behind, does not always hit the same.
 */
export async function compareApproaches(
  bench: Bench,
  population: Population,
  definitions: readonly ApproachDefinition[],
  schedule: Schedule,
): Promise<ComparedApproaches> {
  const databases = await bench.createDatabases(population, definitions.length);
  const opened = await openApproaches(databases, definitions);
  try {
    const slices = await runRounds(bench, population, opened, schedule);
    const checks: Check[] = [];
    for (const open of opened) checks.push(await checkApproach(open));
    return {
      figures: opened.map((open, index) => toFigures(open, slices[index] ?? [], schedule)),
      checks,
    };
  } finally {
    await closeApproaches(bench, opened, databases);
  }
}

export async function closeApproaches(
  bench: Bench,
  opened: readonly OpenApproach[],
  databases: readonly BenchDatabase[],
): Promise<void> {
  for (const { approach } of opened) await approach.close();
  for (const database of databases) await database.drop();
  await bench.checkpoint();
}

/** Slices per approach, in the order of `opened`; one before, not counted, to warm up. */
export async function runRounds(
  bench: Bench,
  population: Population,
  opened: readonly OpenApproach[],
  { rounds, sliceMs }: Schedule,
): Promise<SliceFigures[][]> {
  const sources = opened.map((_, index) => eventSource(population, 1_000 + index));
  const slices: SliceFigures[][] = opened.map(() => []);
  // Connections, plans, caches and compiled code are there before anything is measured.
  for (const [index, open] of opened.entries()) {
    await runSlice(open, sources[index] as () => BenchEvent, sliceMs, bench.meter);
  }
  for (let turn = 0; turn < rounds; turn++) {
    for (let place = 0; place < opened.length; place++) {
      const index = (place + turn) % opened.length;
      const open = opened[index] as OpenApproach;
      const slice = await runSlice(open, sources[index] as () => BenchEvent, sliceMs, bench.meter);
      slices[index]?.push(slice);
      const rate = Math.round(perSecond(slice.events, slice.elapsedMs));
      const cpuUs = Math.round(slice.cost.serverCpuUs + slice.cost.clientCpuUs);
      bench.log(
        `  round ${turn + 1}  ${open.definition.label}: ${rate} events/s, ${cpuUs} us CPU an event`,
      );
    }
  }
  return slices;
}

export function toFigures(
  open: OpenApproach,
  slices: readonly SliceFigures[],
  { sliceMs }: Schedule,
): ApproachFigures {
  const { name, label, kind, caveat, callers, eventsPerCall = 1 } = open.definition;
  return {
    name,
    label,
    kind,
    caveat,
    callers,
    eventsPerCall,
    sliceSeconds: sliceMs / 1_000,
    eventsPerSecond: slices.map((slice) => round(perSecond(slice.events, slice.elapsedMs))),
    settledEventsPerSecond: slices.map((slice) => round(perSecond(slice.events, slice.settledMs))),
    cost: {
      serverCpuUs: round(median(slices.map(({ cost }) => cost.serverCpuUs)), 3),
      clientCpuUs: round(median(slices.map(({ cost }) => cost.clientCpuUs)), 3),
      walBytes: Math.round(median(slices.map(({ cost }) => cost.walBytes))),
    },
    latencyMs: quantilesOf(slices.flatMap((slice) => slice.latenciesMs)),
    notes: open.approach.notes?.() ?? {},
  };
}

export function perSecond(events: number, elapsedMs: number): number {
  return (events * 1_000) / elapsedMs;
}
