import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The functions' files, in the order in which they depend on each other. */
const FILES = [
  'storage',
  'microdollar_generation',
  'microdollar_position',
  'microdollar_key_bucket',
  'guards',
  'microdollar_open_daily',
  'microdollar_open_exa_month',
  'microdollar_lookup_id',
  'microdollar_note_new_payers',
] as const;

const root = (path: string) => fileURLToPath(new URL(`../${path}`, import.meta.url));

/** The migration of functions, made of their files: `npm run functions` writes it. */
export function functionsMigration(): string {
  const texts = FILES.map((name) =>
    readFileSync(root(`src/counter/functions/${name}.sql`), 'utf8').trim(),
  );
  return `-- Written by \`npm run functions\` from src/counter/functions; edit those files.\n${texts.join(
    '\n--> statement-breakpoint\n\n',
  )}\n`;
}

export const FUNCTIONS_MIGRATION = root('drizzle/0001_functions.sql');

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(FUNCTIONS_MIGRATION, functionsMigration());
}
