import { LedgerError } from '../../errors.js';
import { SHARD_BUCKETS } from '../../schema/shards.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../schema/unsettled.js';
import { keyOfPayer, placeBuckets } from '../placement.js';
import {
  type BucketRow,
  beginBucketStatement,
  findBucketStatement,
  LIST_BUCKETS,
  LIST_SHARDS,
  type RegisteredShard,
} from './buckets.sql.js';
import { BucketMove, type BucketReport } from './moveBucket.js';
import type { StoredMove } from './moves.sql.js';
import { isThere, PayerMoves } from './payerMoves.js';
import type { MovedPayer, MoveOptions, MoveReport, MovesOptions, PayerName } from './types.js';

export type FillOptions = MoveOptions & { onBucket?: (done: number, total: number) => void };

/** Moves payers and buckets between shards, one at a time: of two who move, one is refused. */
export class Moves {
  readonly #payers: PayerMoves;

  constructor({ shards, ...options }: MovesOptions) {
    this.#payers = new PayerMoves(shards, options);
  }

  /** Moves that are under way, the oldest first. */
  list(): Promise<StoredMove[]> {
    return this.#payers.list();
  }

  /** Shards of the installation, with whether the rule places on them. */
  shards(): Promise<RegisteredShard[]> {
    return this.#payers.directory<RegisteredShard>(LIST_SHARDS);
  }

  /**
   * Moves a payer, or goes on with its move there. Idempotent until it is finished.
   * @throws LedgerError `invalid_request`: it is there, no such shard, it cannot move; `unknown_user`,
   *   `unknown_organization`; `idempotency_conflict`: the target has one of its ids; `unproven_window`: its
   *   counters differ from its usage; `unavailable`: somebody else moves, or transactions stay open
   */
  async move(named: PayerName, to: string, options: MoveOptions = {}): Promise<MoveReport> {
    return await this.#payers.alone(() => this.#payers.move(payerOf(named), to, options));
  }

  /** Where the payer is, if it may move; changes nothing. @throws LedgerError as `move` */
  plan(named: PayerName, to: string): Promise<{ payer: string; from: string; to: string }> {
    return this.#payers.plan(payerOf(named), to);
  }

  /**
   * Calls off a move that is not switched yet.
   * @throws LedgerError `not_found`, `invalid_request` of one that is switched: go on with it, and move back
   */
  async cancel(named: PayerName): Promise<void> {
    await this.#payers.alone(() => this.#payers.cancel(payerOf(named)));
  }

  /**
   * Lifts fences that were left by a mover that died: the payers take writes where they are, and the moves
   * wait for `resume`. Nothing while somebody moves. @returns how many
   */
  async liftAbandoned(): Promise<number> {
    const isFenced = (await this.list()).some(
      ({ step, bucket }) => step === 'fenced' && bucket === null,
    );
    if (!isFenced) return 0;
    try {
      return await this.#payers.alone(() => this.#payers.liftFences());
    } catch (error) {
      if (error instanceof LedgerError && error.details.is_moving === true) return 0;
      throw error;
    }
  }

  /** Goes on with every move that is under way, those of payers first. */
  async resume(options: MoveOptions = {}): Promise<(MoveReport | BucketReport)[]> {
    return await this.#payers.alone(async () => {
      const reports: (MoveReport | BucketReport)[] = await this.#payers.resume(options);
      for (const { bucket, moving_to: to } of await this.list()) {
        if (bucket === null || to === null || options.signal?.aborted) continue;
        reports.push(await this.#moveBucket(bucket, to, options));
      }
      return reports;
    });
  }

  /**
   * Moves a bucket with all of its payers, or goes on with its move there. Payers with a row of their own
   * stay.
   * @throws LedgerError as `move`
   */
  async moveBucket(bucket: number, to: string, options: MoveOptions = {}): Promise<BucketReport> {
    requireBucket(bucket);
    return await this.#payers.alone(async () => {
      await this.#payers.resume(options);
      return await this.#moveBucket(bucket, to, options);
    });
  }

  /** Where a bucket is, if it may move; changes nothing. @throws LedgerError as `moveBucket` */
  async planBucket(
    bucket: number,
    to: string,
  ): Promise<{ bucket: number; from: string; to: string }> {
    requireBucket(bucket);
    this.#payers.shard(to, 'to');
    const { from } = await this.#findBucket(bucket, to);
    return { bucket, from, to };
  }

  /** Calls off a move of a bucket; payers that have moved stay there. @throws LedgerError `not_found` */
  async cancelBucket(bucket: number): Promise<void> {
    requireBucket(bucket);
    await this.#payers.alone(async () => {
      await this.#payers.resume({});
      const [move] = await this.#payers.directory<StoredMove>(findBucketStatement(bucket));
      if (move?.moving_to == null) {
        throw new LedgerError('not_found', `no move of bucket ${bucket} is under way`);
      }
      await this.#bucketMove(bucket, move.shard, move.moving_to, {}).cancel(move);
    });
  }

  /**
   * Buckets that the rule gives a shard and that are elsewhere still, as they are after it has joined.
   * @throws LedgerError `invalid_request`
   */
  async bucketsFor(name: string): Promise<{ bucket: number; from: string }[]> {
    this.#payers.shard(name, 'name');
    const rule = await this.#rule();
    const rows = await this.#payers.directory<BucketRow>(LIST_BUCKETS);
    return rows
      .filter(({ bucket, shard }) => rule[bucket] === name && shard !== name)
      .map(({ bucket, shard }) => ({ bucket, from: shard }));
  }

  /** Fills a shard with the buckets that the rule gives it, one after the other. Idempotent. */
  async fill(name: string, options: FillOptions = {}): Promise<BucketReport[]> {
    return await this.#payers.alone(async () => {
      await this.#payers.resume(options);
      const buckets = await this.bucketsFor(name);
      const reports: BucketReport[] = [];
      for (const { bucket } of buckets) {
        if (options.signal?.aborted) break;
        reports.push(await this.#moveBucket(bucket, name, options));
        options.onBucket?.(reports.length, buckets.length);
      }
      return reports;
    });
  }

  async #moveBucket(bucket: number, to: string, options: MoveOptions): Promise<BucketReport> {
    this.#payers.shard(to, 'to');
    const { found, from } = await this.#findBucket(bucket, to);
    const [move] =
      found?.step == null
        ? await this.#payers.directory<StoredMove>(beginBucketStatement(bucket, from, to))
        : [found];
    if (!move) throw new LedgerError('unavailable', `bucket ${bucket} was moved just now`);
    return await this.#bucketMove(bucket, from, to, options).run(move);
  }

  /** Where a bucket is that may move. @throws LedgerError `invalid_request` */
  async #findBucket(bucket: number, to: string) {
    const [found] = await this.#payers.directory<StoredMove>(findBucketStatement(bucket));
    const from = found?.shard ?? (await this.#rule())[bucket] ?? '';
    if (found?.step != null && found.moving_to !== to) {
      throw new LedgerError(
        'invalid_request',
        `bucket ${bucket} is on its way to shard ${found.moving_to}: finish that move, or call it off`,
        { details: { field: 'to' } },
      );
    }
    if (from === to) throw isThere(`bucket ${bucket}`, to);
    return { found, from };
  }

  #bucketMove(bucket: number, from: string, to: string, given: MoveOptions): BucketMove {
    const options = { restRatio: 1, ...given };
    return new BucketMove({
      bucket,
      from: this.#payers.shard(from, 'bucket'),
      to: this.#payers.shard(to, 'to'),
      home: this.#payers.home,
      directory: this.#payers.directory,
      options,
      movePayer: (payer) => this.#payers.move(payer, to, options),
    });
  }

  async #rule(): Promise<string[]> {
    const rows = await this.shards();
    return placeBuckets(rows.filter((row) => row.is_placing).map(({ name }) => name));
  }
}

/** @throws LedgerError `invalid_request` */
function requireBucket(bucket: number): void {
  if (Number.isInteger(bucket) && bucket >= 0 && bucket < SHARD_BUCKETS) return;
  throw new LedgerError('invalid_request', `bucket must be 0 to ${SHARD_BUCKETS - 1}`, {
    details: { field: 'bucket' },
  });
}

function payerOf(named: PayerName): MovedPayer {
  const key = keyOfPayer(named);
  const id = key.slice(key.indexOf(':') + 1);
  return { scope: 'organization_id' in named ? ORGANIZATION_SCOPE : USER_SCOPE, id };
}
