import pg from 'pg';
import type { Statement } from './statement.js';

/** How a column of an answer is read. */
interface Column {
  name: string;
  read: (text: string) => unknown;
}

/** What `pg.Connection` has, of which its types say a part. */
interface Wire {
  stream: { cork(): void; uncork(): void };
  parsedStatements: Record<string, string | undefined>;
  parse(message: { name: string; text: string }): void;
  bind(message: { statement: string; values: (string | null)[] }): void;
  describe(message: { type: 'P' }): void;
  execute(message: object): void;
  sync(): void;
}

/** Columns of the statements that a connection has prepared. */
const COLUMNS = new WeakMap<Wire, Map<string, readonly Column[]>>();

type Callback = (error: Error | null) => void;

/**
 * A statement that a connection prepares once, and is told the columns of once: later it is bound and
 * executed only. pg's own asks for the columns with each execution, and sets up its answer for them anew,
 * which is a sixth of what a client does for a short statement. Values are text, numbers, booleans and null.
 *
 * pg calls `submit`, then what `handle...` it gets messages for, and `callback` where it gives up.
 */
class PreparedQuery<Row> {
  readonly name: string;
  readonly text: string;
  readonly rows: Row[] = [];
  callback: Callback;
  readonly #values: (string | null)[];
  #columns: readonly Column[] | undefined;
  #wire: Wire | undefined;
  #failure: Error | null = null;

  constructor({ name, text, values }: Statement, callback: Callback) {
    this.name = name;
    this.text = text;
    this.#values = values.map(toText);
    this.callback = callback;
  }

  /** @returns an error: pg tells it as the answer */
  submit(connection: unknown): Error | undefined {
    const wire = connection as Wire;
    const { name, text } = this;
    this.#wire = wire;
    this.#columns = COLUMNS.get(wire)?.get(name);
    const prepared = wire.parsedStatements[name];
    if (prepared !== undefined && prepared !== text) {
      return new Error(`prepared statement ${name} is another one on this connection`);
    }
    // In one piece.
    wire.stream.cork();
    try {
      if (prepared === undefined) wire.parse({ name, text });
      wire.bind({ statement: name, values: this.#values });
      if (prepared === undefined || this.#columns === undefined) wire.describe({ type: 'P' });
      wire.execute({});
      wire.sync();
    } finally {
      wire.stream.uncork();
    }
    return undefined;
  }

  handleRowDescription({ fields }: { fields: readonly pg.FieldDef[] }): void {
    this.#columns = fields.map(({ name, dataTypeID }) => ({
      name,
      read: pg.types.getTypeParser(dataTypeID, 'text'),
    }));
    const wire = this.#wire as Wire;
    const known = COLUMNS.get(wire) ?? new Map<string, readonly Column[]>();
    COLUMNS.set(wire, known.set(this.name, this.#columns));
  }

  handleDataRow({ fields }: { fields: readonly (string | null)[] }): void {
    const row: Record<string, unknown> = {};
    try {
      this.#columns?.forEach(({ name, read }, index) => {
        const text = fields[index] ?? null;
        row[name] = text === null ? null : read(text);
      });
    } catch (error) {
      // A host's own parser; told when the answer has ended.
      this.#failure ??= error as Error;
    }
    this.rows.push(row as Row);
  }

  handleCommandComplete(): void {}

  handleError(error: Error): void {
    this.callback(error);
  }

  handleReadyForQuery(): void {
    this.callback(this.#failure);
  }
}

/** Prepares and runs it on a connection. @returns its rows */
export function runPrepared<Row>(client: pg.ClientBase, statement: Statement): Promise<Row[]> {
  return new Promise((resolve, reject) => {
    const query: PreparedQuery<Row> = new PreparedQuery(statement, (error) =>
      error === null ? resolve(query.rows) : reject(error),
    );
    client.query(query);
  });
}

function toText(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'object')
    throw new TypeError('a value is text, a number, a boolean or null');
  return String(value);
}
