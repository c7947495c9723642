import pg from 'pg';
import { LedgerError } from '../../errors.js';
import { raiseAlone } from '../migrate/generation.js';
import {
  assertHere,
  DEFINITIONS,
  enterShard,
  enterTrigger,
  LOCAL_SETTINGS,
  localView,
  SHARD_TABLES,
} from './localSchema.sql.js';
import { localSchemaOf } from './placedUrl.js';

/** What the local schema has beside a view for each table, in the order that it is made. */
export interface Definition {
  kind: 'sequence' | 'function' | 'view' | 'trigger';
  /** Of the table, for a sequence or trigger. */
  name: string;
  /** Of a sequence: column and type. */
  statement: string;
}

interface ShardTable {
  name: string;
  /** Qualified, quoted where it has to be. */
  physical: string;
  shard_id: string;
}

/**
 * Makes the views, functions and triggers by which a ledger works on the tables of this node, where Citus
 * has placed its schema, and raises the generation of positions (R6), all in one transaction: so
 * nobody writes here with a position of the node that the schema was on before. What is there of it is made
 * anew. Any number of processes may call it at once.
 * @param client on the node, whose settings it changes
 * @param isAgreed whether every node knows that the schema is here; asked while no move can begin
 * @returns whether it is there now
 * @throws LedgerError `unavailable` where the schema has no definitions
 */
export async function buildLocalSchema(
  client: pg.Client,
  schema: string,
  isAgreed: () => Promise<boolean>,
): Promise<boolean> {
  const local = localSchemaOf(schema);
  for (const [name, value] of Object.entries(LOCAL_SETTINGS)) {
    await client.query('select set_config($1, $2, false)', [name, value]);
  }
  await client.query('select set_config($1, $2, false)', [
    'search_path',
    pg.escapeIdentifier(local),
  ]);
  await client.query('begin');
  try {
    await client.query('select pg_advisory_xact_lock(hashtextextended($1, 1297369174))', [local]);
    const { rows } = await client.query(
      `select to_regclass('ledger_settings') is not null as built`,
    );
    if (!rows[0].built) {
      await build(client, schema, local);
      // It has written, so the schema stays here; but it may have come a second time since it was asked for.
      if (!(await isAgreed())) {
        await client.query('rollback');
        return false;
      }
    }
    await client.query('commit');
    return true;
  } catch (error) {
    await client.query('rollback').catch(() => {});
    throw error;
  }
}

async function build(client: pg.Client, schema: string, local: string): Promise<void> {
  const { rows: tables } = await client.query<ShardTable>(SHARD_TABLES, [schema]);
  const physicalOf = new Map(tables.map(({ name, physical }) => [name, physical]));
  const definitionsTable = physicalOf.get(DEFINITIONS);
  const settings = tables.find(({ name }) => name === 'ledger_settings');
  if (definitionsTable === undefined || settings === undefined) {
    throw new LedgerError(
      'unavailable',
      `the schema ${schema} is placed by Citus, and not a ledger's: run microdollar migrate`,
      { details: { field: 'schema', schema } },
    );
  }
  await client.query(`drop schema if exists ${pg.escapeIdentifier(local)} cascade`);
  await client.query(`create schema ${pg.escapeIdentifier(local)}`);
  await client.query(assertHere(settings.shard_id));
  await client.query(enterShard(settings.shard_id));
  for (const { name, physical } of tables) {
    await client.query(localView(name, physical));
    await client.query(enterTrigger(physical));
  }
  const { rows: definitions } = await client.query<Definition>(
    `select kind, name, statement from ${definitionsTable} order by ordinal`,
  );
  for (const definition of definitions) {
    for (const statement of statementsOf(definition, physicalOf)) await client.query(statement);
  }
  await raiseAlone(client);
}

/** In the session's search path. */
function statementsOf(
  { kind, name, statement }: Definition,
  physicalOf: ReadonlyMap<string, string>,
): string[] {
  if (kind === 'trigger') {
    // As the catalog writes it: one ON, after the event.
    return [statement.replace(` ON ${name} `, () => ` ON ${physicalOf.get(name)} `)];
  }
  if (kind !== 'sequence') return [statement];
  const [column = '', type = ''] = statement.split(' ');
  const sequence = `${name}_${column}_seq`;
  return [
    `create sequence ${sequence} as ${type}`,
    `select setval('${sequence}', coalesce(max(${column}), 0) + 1, false) from ${name}`,
    `alter view ${name} alter column ${column} set default nextval('${sequence}')`,
  ];
}
