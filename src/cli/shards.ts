import type { Command } from 'commander';
import { LedgerError } from '../errors.js';
import { migrateShards } from '../shards/migrateShards.js';
import type { BucketReport } from '../shards/move/moveBucket.js';
import type { StoredMove } from '../shards/move/moves.sql.js';
import { type OpenMoves, openMoves, type ShardStatus } from '../shards/move/openMoves.js';
import type { MoveOptions, MoveReport, PayerName } from '../shards/move/types.js';
import { placeBuckets } from '../shards/placement.js';
import type { ShardOptions } from '../shards/shardsFile.js';
import type { CommandContext, CommandStatus, Register, Runner } from './context.js';
import { alignTable, formatCount, formatInstant } from './output.js';
import { startProgress } from './progress.js';

interface MoveCommandOptions {
  user?: string;
  org?: string;
  bucket?: string;
  to?: string;
  dryRun?: true;
  cancel?: true;
}

const GO_ON = 'run it again, or `shards resume`: it goes on';

export const registerShards: Register = (shards, run) => {
  shards
    .command('status')
    .description('payers, sizes, rates and lag of each, and the moves under way')
    .action(() => run((context) => withMoves(context, (opened) => status(context, opened))));
  registerMove(shards, run);
  shards
    .command('resume')
    .description('go on with every move that was ended before its end')
    .action(() => run((context) => withMoves(context, (opened) => resume(context, opened))));
  shards
    .command('add <name>')
    .description('join a shard that the file names by now, and move its part of the buckets to it')
    .option('--dry-run', 'say how many buckets it would take, and change nothing')
    .action((name: string, options: { dryRun?: true }) =>
      run((context) => add(context, name, options)),
    );
};

function registerMove(shards: Command, run: Runner): void {
  shards
    .command('move')
    .description('move a payer, or a bucket of payers, to another shard, while they are used')
    .option('--user <id>', 'this user, with what they pay for themselves')
    .option('--org <id>', 'or this organization, with its members')
    .option('--bucket <number>', 'or every payer of this bucket, 0 to 1023, throttled')
    .option('--to <name>', 'the shard to move to')
    .option('--dry-run', 'say where it is and what is in the way, and change nothing')
    .option('--cancel', 'call the move off, where it is not switched yet')
    .addHelpText('after', NOTES)
    .action((options: MoveCommandOptions) =>
      run((context) => withMoves(context, (opened) => move(context, opened, options))),
    );
}

const NOTES = `
Writers of the payer wait for a fraction of a second, others do not notice. A move that was ended, or
killed, goes on when it is run again. Connections must lead straight to the servers, through no pooler.`;

/** @throws LedgerError `invalid_request` without the file */
function requireShards({ environment }: CommandContext): ShardOptions[] {
  if (environment.shards !== null) return environment.shards;
  throw new LedgerError('invalid_request', 'MICRODOLLAR_SHARDS_FILE must name the shards file', {
    details: { field: 'MICRODOLLAR_SHARDS_FILE' },
  });
}

async function withMoves(
  context: CommandContext,
  work: (opened: OpenMoves) => Promise<CommandStatus>,
): Promise<CommandStatus> {
  await using opened = await openMoves(requireShards(context));
  return await context.interruption.guard(() => work(opened));
}

async function status({ output }: CommandContext, opened: OpenMoves): Promise<CommandStatus> {
  const [shards, registered, moves] = await Promise.all([
    opened.status(),
    opened.moves.shards(),
    opened.moves.list(),
  ]);
  const placing = new Set(registered.filter((row) => row.is_placing).map(({ name }) => name));
  const isPlacing = (name: string) => placing.has(name);
  output.answer(
    {
      shards: shards.map((shard) => toDocument(shard, isPlacing(shard.name))),
      moves: moves.map(toMoveDocument),
    },
    [
      alignTable(
        [
          ['shard', 'places', 'users', 'orgs', 'rows', 'MB', 'events/s', 'swept', 'lag'],
          ...shards.map((shard) => toCells(shard, isPlacing(shard.name))),
        ],
        [2, 3, 4, 5, 6, 7, 8],
      ),
      ...moves.map((each) => `moving: ${describeMove(each)}`),
    ].join('\n'),
  );
  return shards.some((shard) => 'error' in shard) ? 1 : 0;
}

function toDocument(shard: ShardStatus, isPlacing: boolean) {
  if ('error' in shard) {
    return { name: shard.name, is_placing: isPlacing, error: shard.error.message };
  }
  return {
    name: shard.name,
    is_placing: isPlacing,
    users: Number(shard.users),
    organizations: Number(shard.organizations),
    usage_rows_estimate: Number(shard.usage_rows),
    bytes: Number(shard.bytes),
    events_per_second: shard.events_per_second,
    swept_seconds: shard.swept_seconds,
    replica_lag_bytes: Number(shard.replica_lag_bytes),
  };
}

function toCells(shard: ShardStatus, isPlacing: boolean): string[] {
  if ('error' in shard) return [shard.name, 'away', shard.error.message];
  return [
    shard.name,
    isPlacing ? 'yes' : 'no',
    formatCount(Number(shard.users)),
    formatCount(Number(shard.organizations)),
    `~${formatCount(Number(shard.usage_rows))}`,
    formatCount(Math.round(Number(shard.bytes) / 1e6)),
    String(shard.events_per_second),
    shard.swept_seconds === null ? 'never' : `${Math.round(shard.swept_seconds)} s ago`,
    formatCount(Number(shard.replica_lag_bytes)),
  ];
}

const toMoveDocument = (move: StoredMove) => ({
  bucket: move.bucket,
  kilo_user_id: move.payer_scope === 'user' ? move.payer_id : null,
  organization_id: move.payer_scope === 'organization' ? move.payer_id : null,
  from: move.moved_from ?? move.shard,
  to: move.moving_to ?? move.shard,
  step: move.step,
  updated_at: move.updated_at,
});

function describeMove(move: StoredMove): string {
  const { from, to, step, updated_at: at } = toMoveDocument(move);
  const what =
    move.bucket === null ? `${move.payer_scope} ${move.payer_id}` : `bucket ${move.bucket}`;
  return `${what} from ${from} to ${to}: ${step}, since ${formatInstant(at)}`;
}

async function move(
  context: CommandContext,
  { moves }: OpenMoves,
  given: MoveCommandOptions,
): Promise<CommandStatus> {
  const { output } = context;
  const what = readWhat(given);
  if (given.cancel) {
    await (typeof what === 'number' ? moves.cancelBucket(what) : moves.cancel(what));
    output.answer({ ...describeWhat(what), cancelled: true }, 'called off: it is where it was');
    return 0;
  }
  if (given.to === undefined) {
    throw new LedgerError('invalid_request', '--to is required', { details: { field: 'to' } });
  }
  if (given.dryRun) {
    const plan = await (typeof what === 'number'
      ? moves.planBucket(what, given.to)
      : moves.plan(what, given.to));
    output.answer({ dry_run: true, ...plan }, `would move from ${plan.from} to ${plan.to}`);
    return 0;
  }
  return answerMoves(context, async (options) => [
    await (typeof what === 'number'
      ? moves.moveBucket(what, given.to as string, options)
      : moves.move(what, given.to as string, options)),
  ]);
}

function readWhat({ user, org, bucket }: MoveCommandOptions): PayerName | number {
  if ([user, org, bucket].filter((each) => each !== undefined).length !== 1) {
    throw new LedgerError(
      'invalid_request',
      'name one of --user <id>, --org <id>, --bucket <number>',
    );
  }
  if (bucket !== undefined) return /^\d{1,4}$/.test(bucket) ? Number(bucket) : Number.NaN;
  return user === undefined ? { organization_id: org as string } : { kilo_user_id: user };
}

const describeWhat = (what: PayerName | number) =>
  typeof what === 'number' ? { bucket: what } : what;

function resume(context: CommandContext, { moves }: OpenMoves): Promise<CommandStatus> {
  return answerMoves(context, (options) => moves.resume(options));
}

/** Moves, with what they did when they end, or are ended. */
async function answerMoves(
  { output, interruption }: CommandContext,
  run: (options: MoveOptions) => Promise<(MoveReport | BucketReport)[]>,
): Promise<CommandStatus> {
  let rows = 0;
  const reports = await run({
    signal: interruption.gracefully(),
    onNotice: (message) => output.note(message),
    onProgress: (progress) => {
      if (progress.rows < rows + 100_000) return;
      rows = progress.rows;
      output.note(`${progress.step}: ${formatCount(rows)} rows`);
    },
  });
  output.answer(
    { moves: reports.map(toReportDocument), ...interruption.fields },
    [
      ...(reports.length === 0 ? ['no move is under way'] : reports.map(describeReport)),
      ...interruption.lines(GO_ON),
    ].join('\n'),
  );
  return 0;
}

const toReportDocument = (report: MoveReport | BucketReport) =>
  'payer' in report
    ? {
        payer: report.payer,
        from: report.from,
        to: report.to,
        finished: report.finished,
        rows_copied: report.rowsCopied,
        rows_cleaned: report.rowsCleaned,
        fenced_ms: report.fencedMs,
        lifted_fences: report.liftedFences,
      }
    : {
        bucket: report.bucket,
        from: report.from,
        to: report.to,
        finished: report.finished,
        payers: report.payers,
        rows_copied: report.rowsCopied,
        longest_fence_ms: report.longestFenceMs,
      };

function describeReport(report: MoveReport | BucketReport): string {
  const what = 'payer' in report ? report.payer : `bucket ${report.bucket}`;
  const how = report.finished ? 'moved' : 'not moved yet';
  const more =
    'payer' in report
      ? `its writers waited ${report.fencedMs} ms`
      : `${formatCount(report.payers)} payers, fenced for at most ${report.longestFenceMs} ms`;
  const rows = formatCount(report.rowsCopied);
  return `${what}: ${how} from ${report.from} to ${report.to}, ${rows} rows; ${more}`;
}

async function add(
  context: CommandContext,
  name: string,
  { dryRun }: { dryRun?: true },
): Promise<CommandStatus> {
  const { output, interruption } = context;
  const shards = requireShards(context);
  if (!shards.some((shard) => shard.name === name)) {
    throw new LedgerError('invalid_request', `the shards file names no shard "${name}"`, {
      details: { field: 'name' },
    });
  }
  if (dryRun) return await planAdd(context, name);
  await migrateShards(shards);
  return await withMoves(context, async ({ moves }) => {
    const total = (await moves.bucketsFor(name)).length;
    const bar = startProgress(output, 'buckets', total);
    try {
      const reports = await moves.fill(name, {
        signal: interruption.gracefully(),
        onNotice: (message) => output.note(message),
        onBucket: (done) => bar.update(done),
      });
      const finished = reports.filter((report) => report.finished).length;
      const payers = reports.reduce((sum, report) => sum + report.payers, 0);
      output.answer(
        {
          shard: name,
          buckets: finished,
          buckets_left: total - finished,
          payers,
          ...interruption.fields,
        },
        [
          `${name}: ${formatCount(finished)} of ${formatCount(total)} buckets moved to it, with ` +
            `${formatCount(payers)} payers`,
          ...interruption.lines(GO_ON),
        ].join('\n'),
      );
      return 0;
    } finally {
      bar.stop();
    }
  });
}

/** What the rule would give it, whether it has joined or not. */
function planAdd(context: CommandContext, name: string): Promise<CommandStatus> {
  return withMoves(context, async ({ moves }) => {
    const registered = await moves.shards();
    const isIn = registered.some((shard) => shard.name === name);
    const placing = registered.filter((shard) => shard.is_placing).map((shard) => shard.name);
    const buckets = isIn
      ? (await moves.bucketsFor(name)).length
      : placeBuckets([...placing, name]).filter((shard) => shard === name).length;
    context.output.answer(
      { dry_run: true, shard: name, joined: isIn, buckets },
      `${name} ${isIn ? 'has joined' : 'would join'}; ${formatCount(buckets)} of 1,024 buckets would move`,
    );
    return 0;
  });
}
