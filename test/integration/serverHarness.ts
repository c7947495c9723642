import { randomUUID } from 'node:crypto';
import type { Scope } from '../../src/accounts/scopes.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger, LedgerOptions } from '../../src/ledgerTypes.js';
import { createServer, type Server, type ServerOptions } from '../../src/server/index.js';
import { addMember, createKey, createOrganization, createUser } from '../../src/shards/accounts.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';

export const ADMIN_KEY = 'admin-key-of-the-tests';

export interface Answer {
  status: number;
  headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: tests assert on the shape.
  body: any;
}

export interface TestServer extends ServedLedger {
  database: TestDatabase;
}

/** A server on a free port over a ledger, of shards or not. */
export interface ServedLedger {
  ledger: Ledger;
  server: Server;
  url: string;
  logLines: string[];
  /** JSON in, JSON out; `key` null = no Authorization. */
  call(method: string, path: string, options?: CallOptions): Promise<Answer>;
  post(path: string, body: unknown, key?: string | null): Promise<Answer>;
  get(path: string, key?: string | null): Promise<Answer>;
  /** A tRPC query. */
  query(procedure: string, input?: unknown, key?: string | null): Promise<Answer>;
  newUser(scopes?: Scope[]): Promise<{ id: string; key: string; keyId: string }>;
  newOrganization(...members: string[]): Promise<string>;
  newServiceKey(scopes: Scope[], organizationId?: string): Promise<string>;
  stop(): Promise<void>;
}

export interface CallOptions {
  key?: string | null;
  /** Sent as it is when a string. */
  body?: unknown;
  headers?: Record<string, string>;
}

/** A server on a free port over a database of its own. */
export async function startTestServer(
  options: Partial<ServerOptions> = {},
  databaseUrl: (url: string) => string = (url) => url,
  ledgerOptions: Partial<LedgerOptions> = {},
): Promise<TestServer> {
  const database = await createTestDatabase();
  const ledger = await createLedger({
    databaseUrl: databaseUrl(database.url),
    poolSize: 5,
    ...ledgerOptions,
  });
  const served = await serveLedger(ledger, options);
  return {
    ...served,
    database,
    stop: async () => {
      await served.stop();
      await database.drop();
    },
  };
}

/** Ends with the ledger. */
export async function serveLedger(
  ledger: Ledger,
  options: Partial<ServerOptions> = {},
): Promise<ServedLedger> {
  const logLines: string[] = [];
  const server = createServer({
    ledger,
    adminKey: ADMIN_KEY,
    port: 0,
    logLevel: 'debug',
    logStream: { write: (line: string) => void logLines.push(line) },
    ...options,
  });
  const url = await server.listen();

  async function call(method: string, path: string, how: CallOptions = {}): Promise<Answer> {
    const { key = ADMIN_KEY, body, headers = {} } = how;
    const response = await fetch(`${url}${path}`, {
      method,
      headers: {
        ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body === undefined
        ? {}
        : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') ?? false;
    return {
      status: response.status,
      headers: response.headers,
      body: isJson ? JSON.parse(text) : text,
    };
  }

  return {
    ledger,
    server,
    url,
    logLines,
    call,
    post: (path, body, key = ADMIN_KEY) => call('POST', path, { body, key }),
    get: (path, key = ADMIN_KEY) => call('GET', path, { key }),
    query: (procedure, input, key = ADMIN_KEY) => {
      const search =
        input === undefined ? '' : `?input=${encodeURIComponent(JSON.stringify(input))}`;
      return call('GET', `/api/trpc/${procedure}${search}`, { key });
    },
    async newUser(scopes = ['usage:write', 'usage:read']) {
      const id = `user-${randomUUID()}`;
      await createUser(ledger, { id });
      const key = await createKey(ledger, { kilo_user_id: id, scopes });
      return { id, key: key.key, keyId: key.id };
    },
    async newOrganization(...members) {
      const { id } = await createOrganization(ledger, { name: 'Acme' });
      for (const member of members) await addMember(ledger, id, member);
      return id;
    },
    async newServiceKey(scopes, organizationId) {
      const created = await createKey(ledger, {
        scopes,
        organization_id: organizationId ?? null,
      });
      return created.key;
    },
    async stop() {
      await server.close();
      await ledger.close();
    },
  };
}
