import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeShape } from '../../src/db/migrate/describeShape.js';
import { readJournal } from '../../src/db/migrate/journal.js';
import type { SchemaShape } from '../../src/db/migrate/shape.js';
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
