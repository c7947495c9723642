import type pg from 'pg';
import { BALANCES } from '../../faults/support/clientBook.sql.js';
import { type Answered, dayKey, type Line, payerKey, type Sent, type Total } from './book.js';
import { Cell, type Counted, charged, PayerCells } from './bounds.js';
import { IS_UNFIT } from './cast.js';
import type { Stored } from './stored.js';

/** What the clients noted, by id. */
export interface Notes {
  sent: ReadonlyMap<string, Sent>;
  answered: ReadonlyMap<string, Answered[]>;
  totals: readonly Total[];
  lines: readonly Line[];
}

export function gatherNotes(lines: readonly Line[]): Notes {
  const sent = new Map<string, Sent>();
  const answered = new Map<string, Answered[]>();
  const totals: Total[] = [];
  for (const line of lines) {
    if (line.what === 'sent') {
      const before = sent.get(line.id);
      if (!before || before.at > line.at) sent.set(line.id, line);
    } else if (line.what === 'answered') {
      answered.set(line.id, [...(answered.get(line.id) ?? []), line]);
    } else if (line.what === 'total') totals.push(line);
  }
  return { sent, answered, totals, lines };
}

/** Rows against notes: nothing missing, nothing twice, nothing otherwise, nothing that was refused. */
export function judgeRows(notes: Notes, stored: ReadonlyMap<string, Stored>): string[] {
  const problems: string[] = [];
  for (const line of notes.lines) {
    if (line.what === 'problem') problems.push(line.text);
    else if (line.what === 'refused' && stored.has(line.id)) {
      problems.push(`${line.id}: refused (${line.way}), and in the ${stored.get(line.id)?.place}`);
    }
  }
  for (const [id, answers] of notes.answered) {
    const row = stored.get(id);
    const ways = answers.map(({ way, status }) => `${way}: ${status}`).join(', ');
    if (!row) problems.push(`${id}: acknowledged (${ways}) and missing`);
    else if (answers.some(({ createdAt }) => Date.parse(createdAt) !== Date.parse(row.createdAt))) {
      problems.push(`${id}: answered (${ways}) with another time than ${row.createdAt}`);
    }
    const recorded = answers.filter(({ status }) => status === 'recorded');
    if (recorded.length > 1) problems.push(`${id}: recorded more than once (${ways})`);
  }
  for (const [id, row] of stored) {
    const sent = notes.sent.get(id);
    if (IS_UNFIT.test(`user=${row.user}`)) continue;
    if (!sent) problems.push(`${id}: stored, and nobody sent it`);
    else if (
      sent.kind !== row.kind ||
      sent.user !== row.user ||
      sent.organization !== row.organization ||
      BigInt(sent.cost) !== row.cost
    ) {
      problems.push(`${id}: stored otherwise than sent`);
    }
  }
  return problems;
}

interface Payer {
  usage: Counted[];
  months: Map<string, Counted[]>;
}

/** What is stored, by who pays and by day, with when it was sent and answered. */
function gatherCells(notes: Notes, stored: ReadonlyMap<string, Stored>) {
  const payers = new Map<string, Payer>();
  const days = new Map<string, Counted[]>();
  for (const [id, row] of stored) {
    const counted: Counted = {
      id,
      sentAt: notes.sent.get(id)?.at ?? 0,
      answeredAt: Math.min(
        ...(notes.answered.get(id) ?? []).map(({ at }) => at),
        Number.POSITIVE_INFINITY,
      ),
      cost: row.cost,
    };
    const day = row.createdAt.slice(0, 10);
    const payer = at(payers, payerKey(row), () => ({ usage: [], months: new Map() }));
    if (row.kind === 'exa') {
      at(payer.months, `${row.user} ${day.slice(0, 7)}`, () => []).push(counted);
    } else {
      payer.usage.push(counted);
      at(days, dayKey(row.user, row.organization, day), () => []).push(counted);
    }
  }
  return { payers, days };
}

function at<Value>(map: Map<string, Value>, key: string, make: () => Value): Value {
  const found = map.get(key) ?? make();
  map.set(key, found);
  return found;
}

/** Every total that was ever answered lies between what was acknowledged before and what was sent. */
export function judgeTotals(notes: Notes, stored: ReadonlyMap<string, Stored>): string[] {
  const { payers, days } = gatherCells(notes, stored);
  const cells = new Map<string, Cell | PayerCells>();
  for (const [key, { usage, months }] of payers) {
    cells.set(key, new PayerCells(usage, months.values()));
  }
  for (const [key, events] of days) cells.set(key, new Cell(events));
  const none = new Cell([]);
  return notes.totals.flatMap((total) => {
    const { low, high } = (cells.get(total.key) ?? none).range(total);
    const answered = BigInt(total.total);
    if (answered >= low && answered <= high) return [];
    return [`${total.way} answered ${total.key} as ${answered}, not in [${low}, ${high}]`];
  });
}

/** At rest, every balance is the clients' own sum. */
export async function judgeBalances(
  pool: pg.Pool,
  notes: Notes,
  stored: ReadonlyMap<string, Stored>,
): Promise<string[]> {
  const { payers } = gatherCells(notes, stored);
  const { rows } = await pool.query<{ key: string; total: string }>(BALANCES);
  return rows.flatMap(({ key, total }) => {
    if (IS_UNFIT.test(`user=${key}`)) return [];
    const payer = payers.get(`payer ${key}`);
    let expected = sum(payer?.usage ?? []);
    for (const month of payer?.months.values() ?? []) expected += charged(sum(month));
    return BigInt(total) === expected
      ? []
      : [`balance of ${key}: ${total}, the clients' own sum is ${expected}`];
  });
}

const sum = (events: readonly Counted[]): bigint =>
  events.reduce((total, { cost }) => total + cost, 0n);

/** Credits: every acknowledged one, some of the unanswered ones, each once. */
export async function judgeCredits(pool: pg.Pool, notes: Notes): Promise<string[]> {
  const { rows } = await pool.query<{ id: string; user: string; given: string; acquired: string }>(
    `select u.id as user, u.total_microdollars_acquired as acquired,
      coalesce(sum(c.amount_microdollars), 0) as given
    from kilocode_users as u
    left join credit_transactions as c on c.kilo_user_id = u.id
    group by u.id`,
  );
  const problems = rows
    .filter(({ given, acquired }) => given !== acquired)
    .map(({ user, given, acquired }) => `${user}: credits ${given}, acquired ${acquired}`);
  const { rows: credits } = await pool.query<{ id: string }>('select id from credit_transactions');
  const ids = new Set(credits.map(({ id }) => id));
  for (const line of notes.lines) {
    if (line.what === 'credit' && line.isAnswered && !ids.has(line.id)) {
      problems.push(`credit ${line.id} was acknowledged and is missing`);
    }
  }
  return problems;
}

/** What was called final stays final: no metadata of that user names a person (I11). */
export async function judgeDeleted(pool: pg.Pool, notes: Notes): Promise<string[]> {
  const users = notes.lines.flatMap((line) => (line.what === 'deleted' ? [line.user] : []));
  const { rows } = await pool.query<{ user: string; count: string }>(
    `select kilo_user_id as user, count(*)
    from microdollar_usage_metadata
    where kilo_user_id = any ($1)
      and num_nonnulls(http_user_agent_id, http_ip_id, machine_id, session_id, lookup_values) > 0
    group by kilo_user_id`,
    [users],
  );
  return rows.map(({ user, count }) => `${user}: deleted for good, ${count} rows name a person`);
}
