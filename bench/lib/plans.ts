import pg from 'pg';
import type { Statement } from '../../src/db/statement.js';

/** What one statement did, with every statement inside its functions. */
export interface PlanFigures {
  /** `Seq Scan on t` and the like, on tables; distinct. */
  sequentialScans: string[];
  /** Index scans of tables, distinct tables. */
  tables: string[];
  /** Buffers touched, hit or read. */
  buffers: number;
  /** Of the statement itself. */
  milliseconds: number;
}

interface PlanNode {
  'Node Type': string;
  'Relation Name'?: string;
  'Shared Hit Blocks'?: number;
  'Shared Read Blocks'?: number;
  'Actual Total Time'?: number;
  Plans?: PlanNode[];
}

/**
 * A connection on which every executed statement, also inside functions, reports the plan that
 * really ran, through auto_explain: a generic plan of a prepared statement included.
 */
export class PlanReader {
  readonly #client: pg.Client;
  #plans: PlanNode[] = [];

  private constructor(client: pg.Client) {
    this.#client = client;
    client.on('notice', ({ message }) => {
      const start = message?.indexOf('{') ?? -1;
      if (!message?.includes('plan:') || start < 0) return;
      this.#plans.push(JSON.parse(message.slice(start)).Plan);
    });
  }

  static async connect(url: string, settings: readonly string[]): Promise<PlanReader> {
    const options = [
      ...settings,
      'client_min_messages=notice',
      'session_preload_libraries=auto_explain',
      'auto_explain.log_min_duration=0',
      'auto_explain.log_level=notice',
      'auto_explain.log_nested_statements=on',
      'auto_explain.log_analyze=on',
      'auto_explain.log_buffers=on',
      'auto_explain.log_format=json',
    ];
    const client = new pg.Client({
      connectionString: url,
      options: options.map((option) => `-c ${option}`).join(' '),
    });
    const reader = new PlanReader(client);
    await client.connect();
    return reader;
  }

  async run<Row>(statement: Statement | { text: string; values?: unknown[] }): Promise<Row[]> {
    return (await this.#client.query(statement)).rows as Row[];
  }

  /** Runs the statement in a transaction that is rolled back, twice: the first one warms up. */
  async explain(statement: Statement): Promise<PlanFigures> {
    await this.#once(statement);
    return toFigures(await this.#once(statement));
  }

  async #once(statement: Statement): Promise<PlanNode[]> {
    await this.#client.query('savepoint explained');
    this.#plans = [];
    await this.#client.query(statement);
    const plans = this.#plans;
    await this.#client.query('rollback to savepoint explained');
    return plans;
  }

  close(): Promise<void> {
    return this.#client.end();
  }
}

/** Nested statements report before the one that called them; the last plan is the outermost. */
function toFigures(plans: readonly PlanNode[]): PlanFigures {
  const nodes = plans.flatMap(flatten);
  const outermost = plans.at(-1);
  const blocks = (node: PlanNode | undefined) =>
    (node?.['Shared Hit Blocks'] ?? 0) + (node?.['Shared Read Blocks'] ?? 0);
  const isSequential = (node: PlanNode) => node['Node Type'] === 'Seq Scan';
  const relations = (wanted: PlanNode[]) => [
    ...new Set(wanted.flatMap((node) => node['Relation Name'] ?? [])),
  ];
  return {
    sequentialScans: relations(nodes.filter(isSequential)),
    tables: relations(nodes.filter((node) => /Index|Bitmap/.test(node['Node Type']))),
    buffers: blocks(outermost),
    milliseconds: outermost?.['Actual Total Time'] ?? Number.NaN,
  };
}

function flatten(node: PlanNode): PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(flatten)];
}
