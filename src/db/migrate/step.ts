import type pg from 'pg';

/** Table locks in the order of their strength; `none` = of nothing that existed before. */
export type TableLock =
  | 'none'
  | 'ACCESS SHARE'
  | 'SHARE UPDATE EXCLUSIVE'
  | 'SHARE ROW EXCLUSIVE'
  | 'ACCESS EXCLUSIVE';

export type StepKind =
  | 'create_schema'
  | 'apply_migration'
  | 'check'
  | 'create_table'
  | 'alter_table'
  | 'drop_index'
  | 'create_index'
  | 'add_constraint'
  | 'validate_constraint'
  | 'create_function'
  | 'create_statistics'
  | 'create_trigger'
  | 'create_view'
  | 'drain_pending'
  | 'replace_pending'
  | 'drop_function'
  | 'note_cluster'
  | 'hold_positions'
  | 'raise_generation'
  | 'wait'
  | 'restamp_rows'
  | 'analyze'
  | 'drop_foreign_key'
  | 'partition_table'
  | 'attach_partition'
  | 'finish';

/** One step of a migration: one transaction, or one statement outside of any. */
export interface Step {
  kind: StepKind;
  /** What it makes or changes, for people. */
  subject: string;
  /** Existing tables that it locks, with `lock`. */
  tables: readonly string[];
  lock: TableLock;
  /** `quick`: a change of the catalog. `long`: reads a table; blocks no reader and no writer. */
  duration: 'quick' | 'long';
  statements: readonly string[];
  /** Outside of a transaction. */
  isConcurrent?: boolean;
  /** Of a `check`: its one statement answers `count`, which must be 0, else this is wrong. */
  problem?: (count: string) => string;
  /**
   * What statements cannot do: runs last, in the same transaction. `again`: the step is repeated, in
   * a transaction of its own.
   */
  work?: (client: pg.Client) => Promise<'done' | 'again'>;
}

/** A plan, made from the catalog alone. */
export interface AdoptionPlan {
  steps: Step[];
  /** Why the database cannot be adopted; with any, nothing is changed. */
  problems: string[];
  warnings: string[];
}

export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
