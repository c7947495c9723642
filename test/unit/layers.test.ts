import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';

const SRC = path.join(import.meta.dirname, '../../src');
const TESTS = path.join(import.meta.dirname, '..');

/**
 * Imports go down only (docs/architecture.md); folders of one row do not import each other. The
 * exceptions are named below, each with its reason. `counter` stands on schema and db alone, and all
 * that writes, reads, proves or pays stands on it.
 */
const ROWS: readonly (readonly string[])[] = [
  [
    'schema',
    'money',
    'errors',
    'instant',
    'days',
    'formulas',
    'ids',
    'directories',
    'diskFaults',
    'metrics',
    'log',
    'logLines',
    'background',
    'deadOwners',
    'packageFiles',
    'tracing',
  ],
  ['db', 'journal'],
  ['counter', 'connections'],
  ['record', 'report', 'rollup', 'accounts'],
  ['budgets'],
  ['alerts'],
  ['ledgerTypes'],
  ['ledgerParts'],
  ['ledger'],
  ['shards'],
  ['publicLedger'],
  ['index', 'testing'],
  ['importing', 'gateway', 'demo', 'telemetry'],
  ['server'],
  ['cli'],
  ['web'],
];

const ALLOWED: Readonly<Record<string, string>> = {
  'journal -> db': 'process identity, as the embedded server needs it',
  'gateway -> server': 'the plugin interface it implements; types only',
  'money -> errors': 'what is not money is refused',
  'days -> errors': 'what is no day is refused',
  'ids -> errors': 'what is no id is refused',
  'tracing -> errors': 'of a failure only what is ours is told',
  'background -> tracing': 'a round may have a span',
  'accounts -> ledgerTypes': 'an adjustment is recorded through the ledger; types only',
  'rollup -> budgets': 'the archive folds usage into the budgets before it takes it away',
  'rollup -> alerts': 'what that fold crosses is told in its transaction',
  'rollup -> accounts': 'the archive lets expiries count usage before it takes it away',
  'accounts -> record': 'an adjustment is a usage event, and a correction of one',
};

const rowOf = new Map(ROWS.flatMap((row, index) => row.map((name) => [name, index] as const)));

/** Every file below, with its text. */
async function sourcesOf(folder: string): Promise<[file: string, text: string][]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => path.join(entry.parentPath, entry.name));
  return Promise.all(
    files.map(async (file): Promise<[string, string]> => [file, await readFile(file, 'utf8')]),
  );
}

const sources = await sourcesOf(SRC);

/** The first part of a path below src: a folder, or the name of a file. */
function conceptOf(file: string): string {
  return (path.relative(SRC, file).split(path.sep)[0] ?? '').replace(/\.[jt]sx?$/, '');
}

describe('the layers', () => {
  it('are kept by every import', () => {
    const violations: string[] = [];
    for (const [file, text] of sources) {
      for (const [, target = ''] of text.matchAll(/from '(\.[^']+)'|import\('(\.[^']+)'\)/g)) {
        const from = conceptOf(file);
        const to = conceptOf(path.resolve(path.dirname(file), target));
        if (from === to || ALLOWED[`${from} -> ${to}`]) continue;
        const [fromRow, toRow] = [rowOf.get(from), rowOf.get(to)];
        if (fromRow === undefined || toRow === undefined || toRow >= fromRow) {
          violations.push(`${path.relative(SRC, file)} imports ${to} (${target})`);
        }
      }
    }
    expect(violations).toEqual([]);
  });

  it('have no exception that nobody needs', () => {
    const used = new Set<string>();
    for (const [file, text] of sources) {
      for (const [, target = ''] of text.matchAll(/from '(\.[^']+)'/g)) {
        used.add(`${conceptOf(file)} -> ${conceptOf(path.resolve(path.dirname(file), target))}`);
      }
    }
    expect(Object.keys(ALLOWED).filter((each) => !used.has(each))).toEqual([]);
  });
});

/** What only some may name in SQL or code, and who. A folder, or a file without its ending. */
const OWNED: Readonly<Record<string, { says: RegExp; owners: readonly string[] }>> = {
  'the mark: what is settled is said once, in fragments': {
    says: /settled_(below|except)\b/,
    owners: ['schema', 'counter', 'budgets', 'db/migrate', 'shards/move'],
  },
  'positions: of which transaction a row is': {
    says: /\btxid_(current|snapshot)|microdollar_(generation|position)\(|pg_snapshot_x/,
    // A soft delete waits for the transactions that may have missed it.
    owners: ['counter', 'db/migrate', 'shards/move'],
  },
  'the insert of usage in the log': {
    says: /insert into microdollar_usage \(/,
    owners: ['record', 'importing', 'testing'],
  },
  // Loaded where something is exported, and bundled when it is built.
  "OpenTelemetry's SDK": { says: /'@opentelemetry\/(?!api')/, owners: ['telemetry/otlp'] },
  'grants: usage knows nothing of them': {
    says: /\bcredit_(transactions|expiries)\b/,
    owners: ['schema', 'accounts', 'cli/exportRows', 'db/migrate/requirements', 'shards/move'],
  },
  'what a SQLSTATE means': {
    says: /'(?:0[38]|2[0-9]|4[02]|5[3-8])[0-9A-Z]{3}'/,
    owners: ['db/sqlstate'],
  },
  'the form of a UUID': { says: /\[0-9a-f\]\{8\}-\[/, owners: ['ids'] },
  'the form of a UTC day': { says: /\\d\{4\}-\\d\{2\}-\\d\{2\}\$/, owners: ['days'] },
  'a pause: timers/promises has it': { says: /new Promise\(\(resolve\) => setTimeout/, owners: [] },
};

describe('what is decided in one place', () => {
  it.each(Object.entries(OWNED))('%s', (_, { says, owners }) => {
    const others: string[] = [];
    for (const [file, text] of sources) {
      const name = path.relative(SRC, file);
      if (owners.some((owner) => name.startsWith(`${owner}/`) || name.startsWith(`${owner}.`))) {
        continue;
      }
      if (says.test(text)) others.push(name);
    }
    expect(others).toEqual([]);
  });

  it('each owner does say it, else it need not be named', () => {
    for (const [what, { says, owners }] of Object.entries(OWNED)) {
      const speaking = sources.filter(([, text]) => says.test(text));
      const names = speaking.map(([file]) => path.relative(SRC, file));
      for (const owner of owners.filter((each) => each !== 'db/migrate')) {
        expect(
          names.some((name) => name.startsWith(owner)),
          `${what}: ${owner}`,
        ).toBe(true);
      }
    }
  });
});

describe('the source', () => {
  it('has lines of at most 110 columns, but for markup and regular expressions', () => {
    const long: string[] = [];
    for (const [file, text] of sources) {
      if (file.endsWith('.tsx')) continue;
      const lines = text.split('\n');
      for (const [index, line] of lines.entries()) {
        if (line.length > 110 && !line.trimStart().startsWith('/^'))
          long.push(`${path.relative(SRC, file)}:${index + 1}`);
      }
    }
    expect(long).toEqual([]);
  });

  it('has no file that grew past 450 lines', () => {
    const large: string[] = [];
    for (const [file, text] of sources) {
      const lines = text.split('\n').length;
      if (lines > 450) large.push(`${path.relative(SRC, file)}: ${lines}`);
    }
    expect(large).toEqual([]);
  });

  it('leaves nothing to be done later', () => {
    const found: string[] = [];
    for (const [file, text] of sources) {
      if (/\b(TODO|FIXME|XXX|HACK)\b/.test(text)) found.push(path.relative(SRC, file));
    }
    expect(found).toEqual([]);
  });
});

describe('the tests', () => {
  it('open pools in one way: one that does not listen ends the run when a database is dropped', async () => {
    const others: string[] = [];
    for (const [file, text] of await sourcesOf(TESTS)) {
      if (/new pg\.Pool\(/.test(text)) others.push(path.basename(file));
    }
    expect(others).toEqual(['openPool.ts']);
  });
});
