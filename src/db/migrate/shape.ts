/** What the catalog says of a schema, as far as the ledger cares. Names are unquoted. */
export interface SchemaShape {
  tables: TableShape[];
  views: { name: string; definition: string }[];
  functions: { signature: string; definition: string }[];
}

export interface TableShape {
  name: string;
  /** pg_class.relkind: `r` table, `p` partitioned, `v` view, `m` materialized view, `f` foreign. */
  kind: string;
  /** Storage parameters, `name=value`. */
  options: string[];
  columns: ColumnShape[];
  constraints: ConstraintShape[];
  /** Those behind constraints too. */
  indexes: IndexShape[];
  triggers: { name: string; definition: string }[];
  /** Extended statistics, as `pg_get_statisticsobjdef` prints them. */
  statistics: { name: string; definition: string }[];
}

export interface ColumnShape {
  name: string;
  /** As `format_type` prints it. */
  type: string;
  isNotNull: boolean;
  /** Expression, of a generated column its own; null = none. */
  default: string | null;
  isIdentity: boolean;
  isGenerated: boolean;
}

export interface ConstraintShape {
  name: string;
  kind: 'primary key' | 'unique' | 'foreign key' | 'check';
  /** As `pg_get_constraintdef` prints it. */
  definition: string;
  columns: string[];
  /** Of a foreign key. */
  references: { table: string; columns: string[] } | null;
  isValidated: boolean;
}

export interface IndexShape {
  name: string;
  /** As `pg_get_indexdef` prints it. */
  definition: string;
  method: string;
  isUnique: boolean;
  /** False: a failed or unfinished concurrent build. */
  isValid: boolean;
  /** Key columns or expressions, with operator class, collation and order where not the default. */
  keys: string[];
  predicate: string | null;
  isOfConstraint: boolean;
}
