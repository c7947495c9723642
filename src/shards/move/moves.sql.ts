import type { Statement } from '../../db/statement.js';
import type { MoveStep } from '../../schema/shards.js';
import type { HistoryCursor } from './readRows.sql.js';
import type { MovedPayer } from './types.js';

/** How far the copy is, by log. */
export interface CopyProgress {
  /** Position at which it began: what is older was seen, or is in the history that is left. */
  began: string;
  /** Everything that was open then, or came later, is copied. */
  copied_from: string;
  history: Record<string, HistoryCursor | 'done'>;
}

export interface StoredMove {
  id: string;
  bucket: number | null;
  payer_scope: MovedPayer['scope']['name'] | null;
  payer_id: string | null;
  shard: string;
  moving_to: string | null;
  moved_from: string | null;
  step: MoveStep | null;
  progress: Partial<CopyProgress> | null;
  updated_at: string;
}

export const MOVE_COLUMNS = `d.id, d.bucket, d.payer_scope, d.payer_id, d.shard, d.moving_to, d.moved_from,
  d.step, d.progress, to_json(d.updated_at) #>> '{}' as updated_at`;

/** Advisory lock of whoever moves; on home. Its key is the directory, by its oid. */
const LOCK = `1297369172, 'microdollar_shard_directory'::regclass::oid::integer`;

export const LOCK_MOVES: Statement = {
  name: 'shards_lock_moves',
  text: `/* shards.lockMoves */
select pg_try_advisory_lock(${LOCK}) as is_locked`,
  values: [],
};

export const UNLOCK_MOVES: Statement = {
  name: 'shards_unlock_moves',
  text: `/* shards.unlockMoves */
select pg_advisory_unlock(${LOCK})`,
  values: [],
};

export function findMoveStatement({ scope, id }: MovedPayer): Statement {
  return {
    name: 'shards_find_move',
    text: `/* shards.findMove */
select ${MOVE_COLUMNS}
from microdollar_shard_directory as d
where d.payer_scope = $1::text
  and d.payer_id = $2::text`,
    values: [scope.name, id],
  };
}

/** Every move that is under way, the oldest first. */
export const LIST_MOVES: Statement = {
  name: 'shards_list_moves',
  text: `/* shards.listMoves */
select ${MOVE_COLUMNS}
from microdollar_shard_directory as d
where d.step is not null
order by d.updated_at, d.id`,
  values: [],
};

/** Begins a move of a payer that none is under way of. */
export function beginMoveStatement({ scope, id }: MovedPayer, from: string, to: string): Statement {
  return {
    name: 'shards_begin_move',
    text: `/* shards.beginMove */
insert into microdollar_shard_directory as d (payer_scope, payer_id, shard, moving_to, step, progress)
values ($1::text, $2::text, $3::text, $4::text, 'copying', '{}')
on conflict (payer_scope, payer_id) do update
set moving_to = excluded.moving_to,
  step = 'copying',
  progress = '{}',
  updated_at = now()
where d.step is null
  and d.shard = excluded.shard
returning ${MOVE_COLUMNS}`,
    values: [scope.name, id, from, to],
  };
}

/** Where a move goes: one back, which came after it, is in the same row. */
const goalOf = (move: StoredMove): string => move.moving_to ?? move.shard;

/** Notes how far a move is, where it is in step `from` still. */
export function noteStepStatement(move: StoredMove, from: MoveStep, to: MoveStep): Statement {
  return {
    name: 'shards_note_step',
    text: `/* shards.noteStep */
update microdollar_shard_directory as d
set step = $3::text,
  updated_at = now()
where d.id = $1::uuid
  and d.step = $2::text
  and coalesce(d.moving_to, d.shard) = $4::text
returning ${MOVE_COLUMNS}`,
    values: [move.id, from, to, goalOf(move)],
  };
}

export function noteProgressStatement(move: StoredMove, progress: CopyProgress): Statement {
  return {
    name: 'shards_note_progress',
    text: `/* shards.noteProgress */
update microdollar_shard_directory as d
set progress = $2::jsonb,
  updated_at = now()
where d.id = $1::uuid
  and d.step = 'copying'
  and coalesce(d.moving_to, d.shard) = $3::text
returning ${MOVE_COLUMNS}`,
    values: [move.id, JSON.stringify(progress), goalOf(move)],
  };
}

/** The row of a move that is fenced, if nobody has noted anything since: theirs, until the switch. */
export function lockMoveStatement({ id, updated_at: updatedAt }: StoredMove): Statement {
  return {
    name: 'shards_lock_move',
    text: `/* shards.lockMove */
select d.id
from microdollar_shard_directory as d
where d.id = $1::uuid
  and d.step = 'fenced'
  and d.updated_at = $2::timestamptz
for update`,
    values: [id, updatedAt],
  };
}

/** The switch: from its commit on the payer is where it moves to. */
export function switchStatement(id: string): Statement {
  return {
    name: 'shards_switch',
    text: `/* shards.switch */
update microdollar_shard_directory as d
set shard = d.moving_to,
  moved_from = d.shard,
  moving_to = null,
  step = 'switched',
  progress = '{}',
  updated_at = now()
where d.id = $1::uuid
  and d.step = 'fenced'
returning ${MOVE_COLUMNS}`,
    values: [id],
  };
}

/**
 * The end of a move, or of one that is called off, in that step still: a row stays where the rule says
 * otherwise.
 */
export function endMoveStatement(move: StoredMove, isByRule: boolean): Statement {
  const values = [move.id, move.step, goalOf(move)];
  if (isByRule) {
    return {
      name: 'shards_end_move_by_rule',
      text: `/* shards.endMove */
delete from microdollar_shard_directory as d
where d.id = $1::uuid
  and d.step = $2::text
  and coalesce(d.moving_to, d.shard) = $3::text`,
      values,
    };
  }
  return {
    name: 'shards_end_move',
    text: `/* shards.endMove */
update microdollar_shard_directory as d
set moving_to = null,
  moved_from = null,
  step = null,
  progress = null,
  updated_at = now()
where d.id = $1::uuid
  and d.step = $2::text
  and coalesce(d.moving_to, d.shard) = $3::text`,
    values,
  };
}

/** The placing shards, and where the payer's bucket is if the rule says otherwise. */
export interface RuleRow {
  placing: string[];
  bucket_shard: string | null;
}

export function readRuleStatement(bucket: number): Statement {
  return {
    name: 'shards_read_rule',
    text: `/* shards.readRule */
select array(
    select r.name from microdollar_shards as r where r.is_placing order by r.name
  ) as placing,
  (
    select d.shard
    from microdollar_shard_directory as d
    where d.bucket = $1::integer
  ) as bucket_shard`,
    values: [bucket],
  };
}
