import { readFileSync } from 'node:fs';
import path from 'node:path';
import { generateDrizzleJson, generateMigration } from 'drizzle-kit/api';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { functionsMigration } from '../../scripts/write-functions.js';
import { describeShape } from '../../src/db/migrate/describeShape.js';
import { isBreaking, readJournal, readMigrationSql } from '../../src/db/migrate/journal.js';
import type { SchemaShape } from '../../src/db/migrate/shape.js';
import * as tables from '../../src/schema/index.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import { readDatabase } from '../support/describeDatabase.js';

/**
 * The migrated schema as committed: schema.txt for people, schema.json for adopting. Both are
 * written by this test when it runs with `-u`.
 */
const folder = path.join(import.meta.dirname, '../../drizzle');
const REMEDY =
  'is not what the migrations make; if they are right, run ' +
  '`npx vitest run test/integration/migrateSchema.test.ts -u` and commit it with them';

let database: TestDatabase;
let schema: SchemaShape;

beforeAll(async () => {
  database = await createTestDatabase();
  schema = await readDatabase(database.url);
});

afterAll(() => database.drop());

/** One line an object, so that a diff shows which changed. */
function toLines(objects: readonly unknown[]): string {
  return `[\n${objects.map((each) => JSON.stringify(each)).join(',\n')}\n]`;
}

describe('the committed schema', () => {
  it('schema.txt is what the migrations make', async () => {
    const file = path.join(folder, 'schema.txt');
    await expect(describeShape(schema), `drizzle/schema.txt ${REMEDY}`).toMatchFileSnapshot(file);
  });

  it('schema.json is what the migrations make', async () => {
    const migrations = readJournal().map((migration) => migration.name);
    const text = `{"migrations": ${JSON.stringify(migrations)},
"tables": ${toLines(schema.tables.filter((table) => table.kind === 'r'))},
"views": ${toLines(schema.views)},
"functions": ${toLines(schema.functions)}}\n`;
    expect(JSON.parse(text)).toMatchObject({ migrations });
    const file = path.join(folder, 'schema.json');
    await expect(text, `drizzle/schema.json ${REMEDY}`).toMatchFileSnapshot(file);
  });
});

describe('the migrations', () => {
  it('say all that the tables and views of src/schema say', async () => {
    const names = readJournal().map((migration) => migration.name.slice(0, 4));
    const file = path.join(folder, 'meta', `${names.at(-1)}_snapshot.json`);
    const last = JSON.parse(readFileSync(file, 'utf8'));
    const missing = await generateMigration(last, generateDrizzleJson(tables, last.id));
    expect(missing, 'run `npm run drizzle -- generate`').toEqual([]);
  });

  it('have the functions as their files have them', () => {
    const committed = readFileSync(path.join(folder, '0001_functions.sql'), 'utf8');
    expect(committed, 'run `npm run functions`').toBe(functionsMigration());
  });

  it('mark themselves as breaking by their own names, or not at all', () => {
    for (const { name } of readJournal()) {
      const statements = readMigrationSql(name);
      const mentions = statements.some((each) => /set breaking_migrations/i.test(each));
      expect(isBreaking(name, statements), name).toBe(mentions);
    }
  });
});
