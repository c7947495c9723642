import type { Bench } from './bench.js';
import type { Cost } from './cost.js';

/** A question with a measured answer. One file each in bench/scenarios; see bench/README.md. */
export interface Scenario {
  /** Names its file, its result and its charts; kebab-case. */
  name: string;
  title: string;
  question: string;
  /** What is done, by how many, for how long: enough to judge the figures. */
  workload: string;
  /** What it is compared with, and why that is fair. */
  baseline: string;
  run(bench: Bench): Promise<Findings>;
}

/** Everything a scenario found out; stored as JSON, and all that the report may quote. */
export interface Findings {
  throughput?: ApproachFigures[];
  comparisons?: Comparison[];
  tables?: Table[];
  charts?: Chart[];
  checks: Check[];
}

/** Whose design a figure belongs to: ours, an alternative, or a bound that keeps no totals. */
export type Kind = 'ours' | 'alternative' | 'limit';

/** What one approach did in a closed loop, a slice per round. */
export interface ApproachFigures {
  name: string;
  label: string;
  kind: Kind;
  /** What its user has to accept; empty when nothing. */
  caveat: string;
  callers: number;
  /** One event a call, or a batch. */
  eventsPerCall: number;
  /** Length of a slice. */
  sliceSeconds: number;
  /** Acknowledged events a second, per round. */
  eventsPerSecond: number[];
  /** The same, counting the time until its totals were up to date as well. */
  settledEventsPerSecond: number[];
  /** An event's CPU (microseconds, server and client) and WAL (bytes), its fold included. */
  cost?: Cost;
  /** Of a call, over all rounds. */
  latencyMs: Quantiles;
  /** Other figures of its own, such as how stale its totals were; by name with unit. */
  notes: Record<string, number>;
}

export interface Quantiles {
  p50: number;
  p99: number;
  max: number;
}

/** Two figures of one run as a ratio: subject / baseline, one per round. */
export interface Comparison {
  subject: string;
  baseline: string;
  /** What is divided, such as `events/s` or `p99 ms`. */
  measure: string;
  ratios: number[];
  target: Target | null;
}

export type Target = { atLeast: number } | { atMost: number };

export interface Table {
  title: string;
  /** The first column holds labels. */
  columns: string[];
  rows: (string | number | null)[][];
}

export type Chart = BarChart | LineChart;

export interface BarChart {
  type: 'bar';
  /** File name without extension, unique within the scenario. */
  name: string;
  title: string;
  unit: string;
  bars: { label: string; kind: Kind; value: number; low: number; high: number }[];
}

export interface LineChart {
  type: 'line';
  name: string;
  title: string;
  xLabel: string;
  yLabel: string;
  lines: { label: string; kind: Kind; points: [x: number, y: number][] }[];
}

/** Something that must hold after the timing; a run whose checks fail proves nothing. */
export interface Check {
  name: string;
  ok: boolean;
  detail: string;
}
