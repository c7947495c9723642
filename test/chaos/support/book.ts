import { appendFileSync, openSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { z } from 'zod';

/**
 * What the processes of a run note, each in a file of its own, a line at a time and before they go
 * on: a process that is killed loses nothing of it. Times are of the machine's monotonic clock,
 * microseconds, the same in every process whatever its wall clock says.
 */
const SENT = z.object({
  what: z.literal('sent'),
  at: z.number(),
  kind: z.enum(['usage', 'exa']),
  id: z.string(),
  user: z.string(),
  organization: z.string().nullable(),
  /** Microdollars. */
  cost: z.number(),
});
const ANSWERED = z.object({
  what: z.literal('answered'),
  at: z.number(),
  way: z.string(),
  id: z.string(),
  status: z.enum(['recorded', 'duplicate']),
  createdAt: z.string(),
});
/** Refused for good: it is in no table (I9). */
const REFUSED = z.object({ what: z.literal('refused'), way: z.string(), id: z.string() });
/** A total that was answered: what was committed by `from`, and what was sent by `at`. */
const TOTAL = z.object({
  what: z.literal('total'),
  from: z.number(),
  at: z.number(),
  way: z.string(),
  /** `payerKey` or `dayKey`. */
  key: z.string(),
  /** Microdollars, decimal. */
  total: z.string(),
  /** Ids that it contains in any case: the caller's own. */
  own: z.array(z.string()),
});
const CREDIT = z.object({
  what: z.literal('credit'),
  id: z.string(),
  user: z.string(),
  amount: z.number(),
  isAnswered: z.boolean(),
});
/** A soft delete that called itself final. */
const DELETED = z.object({ what: z.literal('deleted'), user: z.string() });
/** A job, or a refusal that is right, by its outcome. */
const DONE = z.object({ what: z.literal('done'), name: z.string() });
/** Wrong by itself, whatever the tables say. */
const PROBLEM = z.object({ what: z.literal('problem'), text: z.string() });

const LINE = z.discriminatedUnion('what', [
  SENT,
  ANSWERED,
  REFUSED,
  TOTAL,
  CREDIT,
  DELETED,
  DONE,
  PROBLEM,
]);
export type Line = z.infer<typeof LINE>;
export type Sent = z.infer<typeof SENT>;
export type Answered = z.infer<typeof ANSWERED>;
export type Total = z.infer<typeof TOTAL>;

export const now = (): number => Number(process.hrtime.bigint() / 1_000n);

export const payerKey = (payer: { user: string; organization: string | null }): string =>
  `payer ${payer.organization ?? payer.user}`;
export const dayKey = (user: string, organization: string | null, day: string): string =>
  `day ${user} ${organization ?? '-'} ${day}`;

/** One process's file. */
export class BookWriter {
  readonly #file: number;

  constructor(dir: string, name: string) {
    this.#file = openSync(path.join(dir, `${name}.book`), 'a');
  }

  note(line: Line): void {
    appendFileSync(this.#file, `${JSON.stringify(line)}\n`);
  }

  done(name: string): void {
    this.note({ what: 'done', name });
  }

  problem(text: string): void {
    this.note({ what: 'problem', text });
  }
}

/** Every line of every process; the last one of a killed process may be cut off. */
export function readBooks(dir: string): Line[] {
  const files = readdirSync(dir).filter((name) => name.endsWith('.book'));
  return files.flatMap((name) => {
    const lines = readFileSync(path.join(dir, name), 'utf8').split('\n');
    return lines.slice(0, -1).map((line) => LINE.parse(JSON.parse(line)));
  });
}
