import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type Query, queryOn, queryOnPool } from '../../db/query.js';
import { toLedgerError } from '../../db/sqlstate.js';
import { LedgerError } from '../../errors.js';
import { scopeNamed } from '../../schema/unsettled.js';
import { bucketOf, placeBucket } from '../placement.js';
import { PayerMove } from './movePayer.js';
import { ALIVE, SILENT_MS, whileAlive } from './moveRow.js';
import {
  beginMoveStatement,
  findMoveStatement,
  LIST_MOVES,
  LOCK_MOVES,
  type RuleRow,
  readRuleStatement,
  type StoredMove,
  UNLOCK_MOVES,
} from './moves.sql.js';
import {
  keyOf,
  type MovedPayer,
  type MoveOptions,
  type MoveReport,
  type MoveShard,
  type MovesOptions,
} from './types.js';

const LOCK_WAIT_MS = 500;
const LOCK_POLL_MS = 50;

/** Shards by name, and moves of single payers between them. Whoever calls has the lock (`alone`). */
export class PayerMoves {
  readonly home: MoveShard;
  readonly directory: Query;
  readonly #check: () => Promise<void>;
  readonly #silentMs: number;
  readonly #shards: ReadonlyMap<string, MoveShard>;

  constructor(
    shards: readonly [MoveShard, ...MoveShard[]],
    { check = async () => {}, silentMs = SILENT_MS }: Omit<MovesOptions, 'shards'>,
  ) {
    this.#check = check;
    this.#silentMs = silentMs;
    this.#shards = new Map(shards.map((shard) => [shard.name, shard]));
    [this.home] = shards;
    this.directory = queryOnPool(this.home.pool, true);
  }

  /** @throws LedgerError `invalid_request` */
  shard(name: string, field: string): MoveShard {
    const shard = this.#shards.get(name);
    if (shard) return shard;
    const known = [...this.#shards.keys()].join(', ');
    throw new LedgerError('invalid_request', `there is no shard "${name}"; known: ${known}`, {
      details: { field },
    });
  }

  list(): Promise<StoredMove[]> {
    return this.directory<StoredMove>(LIST_MOVES);
  }

  async move(payer: MovedPayer, to: string, options: MoveOptions): Promise<MoveReport> {
    const target = this.shard(to, 'to');
    const found = await this.#find(payer);
    if (found?.step != null) return await this.#goOn(found, payer, to, options);
    const from = await this.#placeOf(payer, found, to);
    const move = this.#payerMove(payer, from, target, options);
    await move.check();
    const [begun] = await this.directory<StoredMove>(beginMoveStatement(payer, from.name, to));
    if (!begun) throw new LedgerError('unavailable', `${keyOf(payer)} was moved just now`);
    await options.onPoint?.('noted');
    return await move.run(begun);
  }

  /** Where the payer is, if it may move to `to`; changes nothing. */
  async plan(payer: MovedPayer, to: string): Promise<{ payer: string; from: string; to: string }> {
    const target = this.shard(to, 'to');
    const found = await this.#find(payer);
    if (found?.step != null) {
      requireGoal(found, payer, to);
      return { payer: keyOf(payer), from: found.moved_from ?? found.shard, to };
    }
    const from = await this.#placeOf(payer, found, to);
    await this.#payerMove(payer, from, target, {}).check();
    return { payer: keyOf(payer), from: from.name, to };
  }

  async resume(options: MoveOptions): Promise<MoveReport[]> {
    const reports: MoveReport[] = [];
    for (const move of await this.list()) {
      const { payer_scope: scope, payer_id: id } = move;
      if (scope === null || id === null || options.signal?.aborted) continue;
      reports.push(await this.#run(move, { scope: scopeNamed(scope), id }, options));
    }
    return reports;
  }

  /** Lifts fences whose mover has died. @returns how many */
  async liftFences(): Promise<number> {
    let lifted = 0;
    for (const move of await this.list()) {
      const { payer_scope: scope, payer_id: id } = move;
      if (move.step !== 'fenced' || scope === null || id === null || move.moving_to === null)
        continue;
      const from = this.shard(move.shard, 'payer');
      const to = this.shard(move.moving_to, 'to');
      await this.#payerMove({ scope: scopeNamed(scope), id }, from, to, {}).lift(move);
      lifted++;
    }
    return lifted;
  }

  async cancel(payer: MovedPayer): Promise<void> {
    const move = await this.#find(payer);
    if (move?.step == null) {
      throw new LedgerError('not_found', `no move of ${keyOf(payer)} is under way`);
    }
    if (move.moving_to === null) {
      throw new LedgerError(
        'invalid_request',
        `${keyOf(payer)} is on shard ${move.shard} already: finish the move, then move it back`,
      );
    }
    const from = this.shard(move.shard, 'payer');
    await this.#payerMove(payer, from, this.shard(move.moving_to, 'to'), {}).cancel(move);
  }

  /**
   * Runs work with the lock of whoever moves, which ends with its connection at the latest: soon after this
   * process was stopped.
   * @throws LedgerError `unavailable` while somebody else has it
   */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    let client: pg.PoolClient | null = null;
    try {
      await this.#check();
      client = await this.home.pool.connect();
      client.on('error', ignore);
      const query = queryOn(client, true);
      await client.query(`set idle_session_timeout = ${this.#silentMs}`);
      await lockMoves(query);
      // The next one may begin at once, not when the server has seen that this connection ended.
      const beats = [() => query(ALIVE)];
      const result = await whileAlive(this.#silentMs, beats, work).catch(async (error: unknown) => {
        await query(UNLOCK_MOVES).catch(ignore);
        throw error;
      });
      await query(UNLOCK_MOVES);
      return result;
    } catch (error) {
      throw toLedgerError(error);
    } finally {
      client?.off('error', ignore);
      client?.release(true);
    }
  }

  async #goOn(
    move: StoredMove,
    payer: MovedPayer,
    to: string,
    options: MoveOptions,
  ): Promise<MoveReport> {
    requireGoal(move, payer, to);
    return await this.#run(move, payer, options);
  }

  #run(move: StoredMove, payer: MovedPayer, options: MoveOptions): Promise<MoveReport> {
    const from = this.shard(move.moved_from ?? move.shard, 'payer');
    const to = this.shard(move.moving_to ?? move.shard, 'to');
    return this.#payerMove(payer, from, to, options).run(move);
  }

  #payerMove(payer: MovedPayer, from: MoveShard, to: MoveShard, options: MoveOptions): PayerMove {
    return new PayerMove({
      payer,
      from,
      to,
      options,
      home: this.home.pool,
      directory: this.directory,
      silentMs: this.#silentMs,
      isByRule: async (shard) => (await this.#byRule(payer)) === shard,
    });
  }

  async #find(payer: MovedPayer): Promise<StoredMove | undefined> {
    return (await this.directory<StoredMove>(findMoveStatement(payer)))[0];
  }

  /** Where a payer is that does not move, and that is not at its goal. */
  async #placeOf(payer: MovedPayer, found: StoredMove | undefined, to: string): Promise<MoveShard> {
    const from = this.shard(found?.shard ?? (await this.#byRule(payer)), 'payer');
    await this.#requireAtHome(payer, from);
    if (from.name === to) throw isThere(keyOf(payer), to);
    return from;
  }

  /** Where the payer is without a row of its own. */
  async #byRule(payer: MovedPayer): Promise<string> {
    const bucket = bucketOf(keyOf(payer));
    const [rule] = await this.directory<RuleRow>(readRuleStatement(bucket));
    return rule?.bucket_shard ?? placeBucket(bucket, rule?.placing ?? []);
  }

  async #requireAtHome({ scope, id }: MovedPayer, { name, pool }: MoveShard): Promise<void> {
    const [row] = await queryOnPool(
      pool,
      true,
    )<{ is_elsewhere: boolean }>({
      name: `shards_find_payer_${scope.name}`,
      text: `/* shards.findPayer */
select u.is_elsewhere
from ${scope.payers} as u
where u.id = $1::${scope.idType}`,
      values: [id],
    });
    if (row && !row.is_elsewhere) return;
    const isUser = scope.name === 'user';
    throw new LedgerError(
      isUser ? 'unknown_user' : 'unknown_organization',
      `there is no ${scope.name} with this id on shard ${name}, where it would be`,
      { details: { field: 'payer' } },
    );
  }
}

export function isThere(what: string, to: string): LedgerError {
  return new LedgerError('invalid_request', `${what} is on shard ${to} already`, {
    details: { field: 'to' },
  });
}

/** @throws LedgerError `invalid_request` */
function requireGoal(move: StoredMove, payer: MovedPayer, to: string): void {
  const goal = move.moving_to ?? move.shard;
  if (goal === to) return;
  throw new LedgerError(
    'invalid_request',
    `${keyOf(payer)} is on its way to shard ${goal}: finish that move, or call it off`,
    { details: { field: 'to' } },
  );
}

/** A connection that breaks while it is idle: its next statement fails, which tells enough. */
function ignore(): void {}

/** A killed mover's connection is closed by its server in a moment. */
async function lockMoves(query: Query): Promise<void> {
  for (const deadlineMs = performance.now() + LOCK_WAIT_MS; ; await sleep(LOCK_POLL_MS)) {
    const [row] = await query<{ is_locked: boolean }>(LOCK_MOVES);
    if (row?.is_locked) return;
    if (performance.now() > deadlineMs) {
      throw new LedgerError('unavailable', 'somebody else moves payers now; see shards status', {
        details: { is_moving: true },
      });
    }
  }
}
