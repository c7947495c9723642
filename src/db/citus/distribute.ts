import pg from 'pg';
import { LedgerError } from '../../errors.js';
import { inSchema } from '../ledgerSchema.js';
import { connectToMigrate, explainFailure, underLock } from '../migrate/connection.js';
import { findUnapplied } from '../migrate/journal.js';
import type { MigrateOptions, MigrateResult } from '../migrate.js';
import { withClient } from '../withClient.js';
import {
  ADD_DEFINITION,
  CLUSTER,
  CREATE_DEFINITIONS,
  FUNCTIONS,
  SCHEMA_STATE,
  SEQUENCES,
  TABLES,
  TRIGGERS,
  VIEWS,
} from './distribute.sql.js';
import type { Definition } from './localSchema.js';
import { DEFINITIONS } from './localSchema.sql.js';
import { type CitusPlace, localSchemaOf, onCitus } from './placedUrl.js';
import { PLACEMENT_CLIENT, plainUrl } from './placement.js';
import { assertCitus } from './undistributed.js';

/** Of Citus, that has schemas which it places and moves whole. */
const OLDEST_CITUS = 12;
const LOCK_TIMEOUT_MS = 5_000;

/** @throws LedgerError `invalid_request` for what such a ledger does not have */
function refuseChoices(options: MigrateOptions): void {
  const asked = (
    [
      ['partitionById', 'partitions by id'],
      ['countForeignRows', 'rows of other programs that count at once'],
    ] as const
  ).find(([name]) => options[name]);
  if (asked === undefined) return;
  const [field, what] = asked;
  throw new LedgerError(
    'invalid_request',
    `a ledger that Citus places has no ${what} (docs/operations/citus.md)`,
    { details: { field } },
  );
}

/**
 * Makes a ledger in a schema that Citus places: made whole on the coordinator, parted into tables, which
 * Citus takes, and the rest, which is noted in one of them; then given to Citus; then prepared where
 * Citus has put it. Ended anywhere, it can be called again.
 * @param migrateHere makes a ledger in tables of one node
 * @throws LedgerError as `migrate`; `unavailable` with what the cluster lacks, and nothing is changed
 */
export async function migrateOnCitus(
  place: CitusPlace,
  options: MigrateOptions,
  migrateHere: (url: string, options: MigrateOptions) => Promise<MigrateResult>,
): Promise<MigrateResult> {
  refuseChoices(options);
  const { coordinatorUrl, schema } = place;
  const lockTimeoutMs = options.lockTimeoutMs ?? LOCK_TIMEOUT_MS;
  const client = await connectToMigrate(inSchema(coordinatorUrl, schema), lockTimeoutMs);
  try {
    const { waitTimeoutMs = 600_000, log = () => {} } = options;
    const warnings = await checkCluster(client);
    const made = await underLock(client, { waitTimeoutMs, log }, async () => {
      const state = await readState(client, schema);
      if (state.is_distributed && state.is_prepared) return null;
      if (state.is_distributed || (state.has_tables && !state.is_prepared)) throw notOurs(schema);
      let result: MigrateResult | null = null;
      if (!state.is_prepared) {
        const local = inSchema(coordinatorUrl, localSchemaOf(schema));
        result = await migrateHere(local, { ...options, schema: undefined });
        await part(client, place);
      }
      await give(client, schema);
      return result;
    });
    await assertUpToDate(place);
    return {
      applied: made?.applied ?? [],
      isAdopted: false,
      isGenerationRaised: false,
      countsForeignRows: false,
      isPartitioned: false,
      warnings: [...warnings, ...(made?.warnings ?? [])],
    };
  } catch (error) {
    throw explainFailure(error);
  } finally {
    await client.end().catch(() => {});
  }
}

/**
 * That the cluster can have such a ledger.
 * @returns what it can do only in part
 * @throws LedgerError `unavailable` with the remedy
 */
async function checkCluster(client: pg.Client): Promise<string[]> {
  await assertCitus(client);
  const { rows } = await client.query<{
    version: string;
    is_coordinator: boolean;
    holders: string;
    unsynced: string[] | null;
  }>(CLUSTER);
  const [cluster] = rows;
  const lacks = (what: string) =>
    new LedgerError('unavailable', `${what} (docs/operations/citus.md)`, {
      details: { distributed: true },
    });
  if (cluster === undefined || Number.parseInt(cluster.version, 10) < OLDEST_CITUS) {
    throw lacks(`Citus ${cluster?.version} places no schemas: ${OLDEST_CITUS} or later is needed`);
  }
  if (!cluster.is_coordinator) throw lacks('this node is a worker of Citus: name the coordinator');
  if (cluster.holders === '0') throw lacks('no node of Citus takes shards: add a worker');
  if (cluster.unsynced !== null) {
    throw lacks(
      `Citus has not told its metadata to ${cluster.unsynced.join(', ')}: run ` +
        'start_metadata_sync_to_all_nodes()',
    );
  }
  const { rows: levels } = await client.query<{ level: string }>(
    `select current_setting('wal_level') as level`,
  );
  return levels[0]?.level === 'logical'
    ? []
    : ['wal_level is not logical: Citus moves schemas only while nobody may write'];
}

interface SchemaState {
  has_tables: boolean;
  is_prepared: boolean;
  is_distributed: boolean;
}

async function readState(client: pg.Client, schema: string): Promise<SchemaState> {
  const { rows } = await client.query<SchemaState>(SCHEMA_STATE, [schema]);
  return rows[0] ?? { has_tables: false, is_prepared: false, is_distributed: false };
}

function notOurs(schema: string): LedgerError {
  return new LedgerError(
    'unavailable',
    `the schema ${schema} has tables that were not made for a ledger which Citus places: name another`,
    { details: { distributed: true, schema } },
  );
}

/** In one transaction: tables go to the schema, all that Citus does not take becomes definitions. */
async function part(client: pg.Client, { schema }: CitusPlace): Promise<void> {
  const [local, target] = [localSchemaOf(schema), schema].map((name) => pg.escapeIdentifier(name));
  await client.query('begin');
  try {
    await client.query(`set local search_path = ${local}`);
    await client.query(`create schema if not exists ${target}`);
    const read = async (kind: Definition['kind'], text: string) =>
      (await client.query<Definition & { removal: string }>(text)).rows.map((row) => ({
        ...row,
        kind,
      }));
    const { rows: tables } = await client.query<{ name: string }>(TABLES);
    const parts = [
      ...(await read('sequence', SEQUENCES)),
      ...(await read('function', FUNCTIONS)),
      ...(await read('view', VIEWS)),
      ...(await read('trigger', TRIGGERS)),
    ];
    await client.query(CREATE_DEFINITIONS);
    for (const [ordinal, { kind, name, statement }] of parts.entries()) {
      await client.query(ADD_DEFINITION, [ordinal, kind, name, statement]);
    }
    // What is used by others comes first, so it goes last.
    for (const { removal } of parts.toReversed()) await client.query(removal);
    for (const { name } of [...tables, { name: DEFINITIONS }]) {
      await client.query(`alter table ${name} set schema ${target}`);
    }
    await client.query(`drop schema ${local} cascade`);
    await client.query('commit');
  } catch (error) {
    await client.query('rollback').catch(() => {});
    throw error;
  }
}

/** Citus chooses the node. */
async function give(client: pg.Client, schema: string): Promise<void> {
  await client.query('set citus.enable_ddl_propagation = on');
  await client.query('set citus.multi_shard_modify_mode = sequential');
  await client.query('select citus_schema_distribute($1::regnamespace)', [
    pg.escapeIdentifier(schema),
  ]);
}

/** Prepares the schema where it is. @throws LedgerError `unavailable` for one of another version */
async function assertUpToDate({ coordinatorUrl, schema }: CitusPlace): Promise<void> {
  const unapplied = await withClient(
    await plainUrl(onCitus(coordinatorUrl, schema)),
    PLACEMENT_CLIENT,
    findUnapplied,
  );
  if (unapplied.length === 0) return;
  const names = unapplied.map(({ name }) => name);
  throw new LedgerError(
    'unavailable',
    `the ledger lacks ${names.join(', ')}, and one that Citus places cannot be changed where it is: ` +
      'make a new one, and move its payers there (microdollar shards move)',
    { details: { missing_migrations: names } },
  );
}
