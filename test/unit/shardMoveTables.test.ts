import { getTableColumns, getTableName, is } from 'drizzle-orm';
import { PgTable } from 'drizzle-orm/pg-core';
import { describe, expect, it } from 'vitest';
import * as schema from '../../src/schema/index.js';
import {
  COUNTER_TABLES,
  LEDGER_TABLES,
  LOG_TABLES,
  PAYER_TABLES,
  STATE_TABLES,
} from '../../src/shards/move/payerTables.js';

const tables = Object.values<unknown>(schema).filter((value): value is PgTable =>
  is(value, PgTable),
);
const ofPayers = [
  ...LOG_TABLES,
  ...COUNTER_TABLES,
  ...PAYER_TABLES,
  ...STATE_TABLES.map(({ name }) => name),
];

describe('what a move takes along', () => {
  it('is decided of every table, once', () => {
    expect([...ofPayers, ...Object.keys(LEDGER_TABLES)].sort()).toEqual(
      tables.map((table) => getTableName(table)).sort(),
    );
  });

  it('is every table that names who pays', () => {
    const naming = tables
      .filter((table) =>
        ['kilo_user_id', 'organization_id', 'payer_id'].some(
          (name) => name in getTableColumns(table),
        ),
      )
      .map((table) => getTableName(table));
    expect(naming.filter((name) => name in LEDGER_TABLES).sort()).toEqual([
      'gateway_intents',
      'gateway_response_items',
      'gateway_responses',
      'microdollar_shard_directory',
    ]);
  });
});
