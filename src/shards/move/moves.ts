import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type Query, queryOn, queryOnPool } from '../../db/query.js';
import { toLedgerError } from '../../db/sqlstate.js';
import { LedgerError } from '../../errors.js';
import { ORGANIZATION_SCOPE, scopeNamed, USER_SCOPE } from '../../schema/unsettled.js';
import { bucketOf, keyOfPayer, placeBucket } from '../placement.js';
import { PayerMove } from './movePayer.js';
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
  type PayerName,
} from './types.js';

export interface MovesOptions {
  /** The first is home, which has the directory. */
  shards: readonly [MoveShard, ...MoveShard[]];
}

const LOCK_WAIT_MS = 500;
const LOCK_POLL_MS = 50;

/** Moves payers between shards, one at a time: of two who move, one is refused. */
export class Moves {
  readonly #shards: ReadonlyMap<string, MoveShard>;
  readonly #home: pg.Pool;
  readonly #directory: Query;

  constructor({ shards }: MovesOptions) {
    this.#shards = new Map(shards.map((shard) => [shard.name, shard]));
    this.#home = shards[0].pool;
    this.#directory = queryOnPool(this.#home, false);
  }

  /** Moves that are under way, the oldest first. */
  async list(): Promise<StoredMove[]> {
    return await this.#directory<StoredMove>(LIST_MOVES);
  }

  /**
   * Moves a payer, or goes on with its move there. Idempotent until it is finished.
   * @throws LedgerError `invalid_request`: it is there, no such shard, it cannot move; `unknown_user`,
   *   `unknown_organization`; `idempotency_conflict`: the target has one of its ids; `unproven_window`: its
   *   counters differ from its usage; `unavailable`: somebody else moves, or transactions stay open
   */
  async move(named: PayerName, to: string, options: MoveOptions = {}): Promise<MoveReport> {
    return await this.#alone(async () => {
      const payer = payerOf(named);
      const target = this.#shard(to, 'to');
      const found = await this.#find(payer);
      if (found?.step != null) return await this.#goOn(found, payer, to, options);
      const from = this.#shard(found?.shard ?? (await this.#byRule(payer)), 'payer');
      if (from.name === to) {
        throw new LedgerError('invalid_request', `${keyOf(payer)} is on shard ${to} already`, {
          details: { field: 'to' },
        });
      }
      await this.#requireAtHome(payer, from);
      const move = this.#payerMove(payer, from, target, options);
      await move.check();
      const [begun] = await this.#directory<StoredMove>(beginMoveStatement(payer, from.name, to));
      if (!begun) throw new LedgerError('unavailable', `${keyOf(payer)} was moved just now`);
      await options.onPoint?.('noted');
      return await move.run(begun);
    });
  }

  /** What a move would do, and what is in its way; changes nothing. @throws LedgerError as `move` */
  async plan(named: PayerName, to: string): Promise<{ payer: string; from: string; to: string }> {
    const payer = payerOf(named);
    const target = this.#shard(to, 'to');
    const found = await this.#find(payer);
    const from = this.#shard(
      found?.moved_from ?? found?.shard ?? (await this.#byRule(payer)),
      'payer',
    );
    if (found?.step == null) {
      if (from.name === to) {
        throw new LedgerError('invalid_request', `${keyOf(payer)} is on shard ${to} already`, {
          details: { field: 'to' },
        });
      }
      await this.#requireAtHome(payer, from);
      await this.#payerMove(payer, from, target, {}).check();
    }
    return { payer: keyOf(payer), from: from.name, to };
  }

  /** Goes on with every move of a payer that is under way. */
  async resume(options: MoveOptions = {}): Promise<MoveReport[]> {
    return await this.#alone(async () => {
      const reports: MoveReport[] = [];
      for (const move of await this.list()) {
        if (move.payer_scope === null || move.payer_id === null || options.signal?.aborted)
          continue;
        const payer = { scope: scopeNamed(move.payer_scope), id: move.payer_id };
        reports.push(await this.#run(move, payer, options));
      }
      return reports;
    });
  }

  /**
   * Calls off a move that is not switched yet.
   * @throws LedgerError `not_found`, `invalid_request` of one that is switched: go on with it, and move back
   */
  async cancel(named: PayerName): Promise<void> {
    await this.#alone(async () => {
      const payer = payerOf(named);
      const move = await this.#find(payer);
      if (move?.step == null || move.moving_to === null) {
        const isSwitched = move?.step != null;
        throw new LedgerError(
          isSwitched ? 'invalid_request' : 'not_found',
          isSwitched
            ? `${keyOf(payer)} is on shard ${move?.shard} already: finish the move, then move it back`
            : `no move of ${keyOf(payer)} is under way`,
        );
      }
      const from = this.#shard(move.shard, 'payer');
      const to = this.#shard(move.moving_to, 'to');
      await this.#payerMove(payer, from, to, {}).cancel(move);
    });
  }

  #goOn(
    move: StoredMove,
    payer: MovedPayer,
    to: string,
    options: MoveOptions,
  ): Promise<MoveReport> {
    const goal = move.moving_to ?? move.shard;
    if (goal === to) return this.#run(move, payer, options);
    throw new LedgerError(
      'invalid_request',
      `${keyOf(payer)} is on its way to shard ${goal}: finish that move, or call it off`,
      { details: { field: 'to' } },
    );
  }

  #run(move: StoredMove, payer: MovedPayer, options: MoveOptions): Promise<MoveReport> {
    const from = this.#shard(move.moved_from ?? move.shard, 'payer');
    const to = this.#shard(move.moving_to ?? move.shard, 'to');
    return this.#payerMove(payer, from, to, options).run(move);
  }

  #payerMove(payer: MovedPayer, from: MoveShard, to: MoveShard, options: MoveOptions): PayerMove {
    return new PayerMove({
      payer,
      from,
      to,
      options,
      home: this.#home,
      directory: this.#directory,
      isByRule: async (shard) => (await this.#byRule(payer)) === shard,
    });
  }

  async #find(payer: MovedPayer): Promise<StoredMove | undefined> {
    return (await this.#directory<StoredMove>(findMoveStatement(payer)))[0];
  }

  /** Where the payer is without a row of its own. */
  async #byRule(payer: MovedPayer): Promise<string> {
    const bucket = bucketOf(keyOf(payer));
    const [rule] = await this.#directory<RuleRow>(readRuleStatement(bucket));
    return rule?.bucket_shard ?? placeBucket(bucket, rule?.placing ?? []);
  }

  async #requireAtHome({ scope, id }: MovedPayer, { name, pool }: MoveShard): Promise<void> {
    const [row] = await queryOnPool(
      pool,
      false,
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

  #shard(name: string, field: string): MoveShard {
    const shard = this.#shards.get(name);
    if (shard) return shard;
    const known = [...this.#shards.keys()].join(', ');
    throw new LedgerError('invalid_request', `there is no shard "${name}"; known: ${known}`, {
      details: { field },
    });
  }

  /** With the lock of whoever moves, which ends with its connection at the latest. */
  async #alone<T>(work: () => Promise<T>): Promise<T> {
    let client: pg.PoolClient | null = null;
    try {
      client = await this.#home.connect();
      client.on('error', ignore);
      const query = queryOn(client, false);
      await lockMoves(query);
      const result = await work();
      await query(UNLOCK_MOVES);
      return result;
    } catch (error) {
      throw toLedgerError(error);
    } finally {
      client?.off('error', ignore);
      client?.release(true);
    }
  }
}

/** A connection that breaks while it is idle: its next statement fails, which tells enough. */
function ignore(): void {}

/** A killed mover's connection is closed by its server in a moment. */
async function lockMoves(query: Query): Promise<void> {
  for (const deadlineMs = performance.now() + LOCK_WAIT_MS; ; await sleep(LOCK_POLL_MS)) {
    const [row] = await query<{ is_locked: boolean }>(LOCK_MOVES);
    if (row?.is_locked) return;
    if (performance.now() > deadlineMs) {
      throw new LedgerError('unavailable', 'somebody else moves payers now; see shards status');
    }
  }
}

/** @throws LedgerError `invalid_request` */
function payerOf(named: PayerName): MovedPayer {
  const key = keyOfPayer(named);
  const id = key.slice(key.indexOf(':') + 1);
  return { scope: 'organization_id' in named ? ORGANIZATION_SCOPE : USER_SCOPE, id };
}
