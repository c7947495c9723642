import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createApiKey } from '../../src/accounts/apiKeys.js';
import { addCredit } from '../../src/accounts/credits.js';
import { addOrganizationMember, createOrganization } from '../../src/accounts/organizations.js';
import type { Scope } from '../../src/accounts/scopes.js';
import { createUser } from '../../src/accounts/users.js';
import { LedgerError } from '../../src/errors.js';
import { type DurabilityOptions, openDurability } from '../../src/gateway/durable/index.js';
import { createGateway, type GatewayOptions } from '../../src/gateway/index.js';
import { createPricer } from '../../src/gateway/prices/index.js';
import type { HoldMode, OnOutgrown } from '../../src/gateway/proxy/reservations.js';
import { createLedger } from '../../src/ledger.js';
import type { Ledger, LedgerOptions } from '../../src/ledgerTypes.js';
import { createServer, type Server } from '../../src/server/index.js';
import type { ServerOptions } from '../../src/server/options.js';
import { createTestDatabase, type TestDatabase } from '../support/database.js';
import {
  type ReplayOptions,
  type ReplayUpstream,
  startReplayUpstream,
} from '../support/replayUpstream.js';

/** What must never be seen anywhere but at the provider. */
export const UPSTREAM_KEYS = {
  openai: 'sk-upstream-openai-secret',
  anthropic: 'sk-ant-upstream-secret',
} as const;

export interface TestGateway {
  database: TestDatabase;
  ledger: Ledger;
  server: Server;
  upstream: ReplayUpstream;
  url: string;
  logLines: string[];
  /** A user with 100 USD and a key for the gateway. */
  newUser(options?: { usd?: number; scopes?: Scope[] }): Promise<TestUser>;
  newOrganization(usd: number, ...members: string[]): Promise<string>;
  newKey(userId: string | null, organizationId: string | null): Promise<string>;
  /** The row and its metadata, lookups by value; waits for it. */
  usage(id: string): Promise<UsageRow>;
  /** The same by the model that was asked for. */
  usageOf(requestedModel: string): Promise<UsageRow>;
  rows<Row = Record<string, unknown>>(text: string, values?: unknown[]): Promise<Row[]>;
  dataDir: string;
  /** As at the end of a process; the database stays. */
  halt(): Promise<void>;
  stop(): Promise<void>;
}

export interface TestUser {
  id: string;
  key: string;
  keyId: string;
}

// biome-ignore lint/suspicious/noExplicitAny: tests assert on the columns.
export type UsageRow = Record<string, any>;

export interface TestGatewayOptions {
  gateway?: Partial<GatewayOptions>;
  /** Default: nothing is held. */
  holds?: HoldMode;
  onOutgrown?: OnOutgrown;
  durability?: Partial<DurabilityOptions>;
  server?: Partial<ServerOptions>;
  ledger?: Partial<LedgerOptions>;
  /** One that was halted: its database, directory and provider are taken over. */
  after?: TestGateway;
  /** Nothing keeps responses that are made in the background. */
  withoutResponses?: boolean;
  upstream?: ReplayOptions;
}

const notReached = () => Promise.reject(new Error('not reached'));

/** A sink that makes no intent durable, so is asked for nothing else. */
export const FULL_SINK: GatewayOptions['sink'] = {
  begin: () => Promise.reject(new LedgerError('unavailable', 'the journal is full')),
  adopt: () => {},
  settle: notReached,
  abandon: notReached,
  status: () => {
    throw new Error('not reached');
  },
  close: async () => {},
};

/** A gateway on a free port before an upstream with answers of its own. */
export async function startTestGateway(options: TestGatewayOptions = {}): Promise<TestGateway> {
  const { after, holds: mode, onOutgrown } = options;
  const database = after?.database ?? (await createTestDatabase());
  const dataDir = after?.dataDir ?? (await mkdtemp(join(tmpdir(), 'microdollar-gateway-')));
  const upstream = after?.upstream ?? (await startReplayUpstream(options.upstream));
  const ledger = await createLedger({
    databaseUrl: database.url,
    poolSize: 5,
    ...options.ledger,
  });
  const durability = await openDurability({
    ledger,
    databaseUrl: database.url,
    dataDir,
    // A busy machine is not taken for a database that is away.
    databaseTimeoutMs: 30_000,
    ...options.durability,
  });
  const { sink, accounts, inFlight, responses, holds: store } = durability;
  const pricer = createPricer();
  const logLines: string[] = [];
  const server = createServer({
    ...options.server,
    ledger,
    port: 0,
    logLevel: 'trace',
    logStream: { write: (line: string) => void logLines.push(line) },
    plugins: [
      createGateway({
        sink,
        accounts,
        inFlight,
        ...(options.withoutResponses ? {} : { responses }),
        holds: mode === undefined ? null : { mode, store, ...(onOutgrown && { onOutgrown }) },
        followIntervalMs: 50,
        pricer,
        upstreams: {
          openai: { url: upstream.url, key: UPSTREAM_KEYS.openai },
          anthropic: { url: upstream.url, key: UPSTREAM_KEYS.anthropic },
        },
        ...options.gateway,
      }),
    ],
  });
  const url = await server.listen();
  const rows = async <Row>(text: string, values: unknown[] = []) =>
    (await database.pool.query(text, values)).rows as Row[];

  /** Asked for by itself until it is there: to plan the joins takes longer than all the rest. */
  async function untilRow(condition: string, value: string): Promise<UsageRow> {
    for (;;) {
      const there = await rows(`select from microdollar_usage as u where ${condition}`, [value]);
      const [row] =
        there.length === 0 ? [] : await rows<UsageRow>(`${USAGE} where ${condition}`, [value]);
      if (row !== undefined) return row;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async function newKey(userId: string | null, organizationId: string | null): Promise<string> {
    const scopes: Scope[] = ['gateway'];
    const wanted = { kilo_user_id: userId, organization_id: organizationId, scopes };
    return (await createApiKey(ledger.pool, wanted)).key;
  }

  let halting: Promise<void> | null = null;
  async function close(): Promise<void> {
    await server.close();
    await durability.close();
    pricer.close();
    await ledger.close();
  }
  const halt = () => {
    halting ??= close();
    return halting;
  };

  return {
    database,
    dataDir,
    halt,
    ledger,
    server,
    upstream,
    url,
    logLines,
    rows,
    newKey,
    async newUser({ usd = 100, scopes = ['gateway'] } = {}) {
      const id = `user-${randomUUID()}`;
      await createUser(ledger.pool, { id });
      if (usd !== 0) await addCredit(ledger.pool, { kilo_user_id: id, usd });
      const key = await createApiKey(ledger.pool, { kilo_user_id: id, scopes });
      return { id, key: key.key, keyId: key.id };
    },
    async newOrganization(usd, ...members) {
      const { id } = await createOrganization(ledger.pool, { name: 'Acme' });
      for (const member of members) await addOrganizationMember(ledger.pool, id, member);
      if (usd !== 0) await addCredit(ledger.pool, { organization_id: id, usd });
      return id;
    },
    usage: (id) => untilRow('u.id = $1::uuid', id),
    usageOf: (model) => untilRow('u.requested_model = $1', model),
    async stop() {
      await halt();
      await upstream.close();
      await database.drop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

const USAGE = `
  select m.*, u.kilo_user_id, u.organization_id, u.provider, u.model, u.requested_model,
    u.inference_provider, u.cost::int8::int4 as cost, u.input_tokens::int4 as input_tokens,
    u.output_tokens::int4 as output_tokens, u.cache_write_tokens::int4 as cache_write_tokens,
    u.cache_hit_tokens::int4 as cache_hit_tokens, u.has_error, u.created_at as usage_created_at,
    u.project_id, u.api_key_id,
    http_user_agent, http_ip, feature, mode, finish_reason, api_kind, system_prompt_prefix
  from microdollar_usage as u
  left join microdollar_usage_metadata as m on m.id = u.id
  left join http_user_agent using (http_user_agent_id)
  left join http_ip using (http_ip_id)
  left join feature using (feature_id)
  left join mode using (mode_id)
  left join finish_reason using (finish_reason_id)
  left join api_kind using (api_kind_id)
  left join system_prompt_prefix using (system_prompt_prefix_id)`;
