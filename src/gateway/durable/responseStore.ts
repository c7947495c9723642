import type { Query } from '../../db/query.js';
import type { DatabaseGate } from './databaseGate.js';
import { Grouped } from './grouped.js';
import {
  claimResponsesStatement,
  findItemUsersStatement,
  findResponseStatement,
  findResponseUserStatement,
  followResponseStatement,
  forgetResponsesStatement,
  keepResponsesStatement,
  postponeResponseStatement,
  type ResponseRow,
  settleResponseStatement,
} from './responses.sql.js';
import type { FollowedResponse, MadeResponse, OpenResponse, ResponseFollowing } from './types.js';

const CLAIMED_AT_ONCE = 20;
/** Longer than one look may take. */
const LEASE_SECONDS = 120;
const FORGOTTEN_AT_ONCE = 1_000;

/** Responses that a provider makes in the background, and who made those that it stores; in the database. */
export class ResponseStore implements ResponseFollowing {
  readonly #query: Query;
  readonly #gate: DatabaseGate;
  readonly #made: Grouped<MadeResponse>;
  readonly follow: ResponseFollowing['follow'];

  constructor(query: Query, gate: DatabaseGate, follow: ResponseFollowing['follow']) {
    this.#query = query;
    this.#gate = gate;
    this.follow = follow;
    this.#made = new Grouped(async (made) => {
      await query(keepResponsesStatement(made));
    });
  }

  get isAvailable(): boolean {
    return this.#gate.isAvailable;
  }

  /** Committed when it resolves. Again is fine. */
  async insert(response: FollowedResponse, lookInSeconds = 1): Promise<void> {
    await this.#query(followResponseStatement(response, lookInSeconds));
  }

  async claimDue(): Promise<OpenResponse[]> {
    const rows = await this.#run<ResponseRow>(
      claimResponsesStatement(CLAIMED_AT_ONCE, LEASE_SECONDS),
    );
    return rows.map(toOpenResponse);
  }

  async postpone(usageId: string, seconds: number): Promise<void> {
    await this.#run(postponeResponseStatement(usageId, seconds));
  }

  async markSettled(usageId: string): Promise<void> {
    await this.#run(settleResponseStatement(usageId));
  }

  async find(responseId: string, apiKeyId: string): Promise<OpenResponse | null> {
    const [row] = await this.#run<ResponseRow>(findResponseStatement(responseId, apiKeyId));
    return row === undefined ? null : toOpenResponse(row);
  }

  keep(response: MadeResponse): Promise<void> {
    return this.#gate.run(() => this.#made.add(response));
  }

  async findUser(responseId: string): Promise<string | null> {
    const [row] = await this.#run<{ kilo_user_id: string }>(findResponseUserStatement(responseId));
    return row?.kilo_user_id ?? null;
  }

  async findItemUsers(itemIds: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const rows = await this.#run<{ item_id: string; kilo_user_id: string }>(
      findItemUsersStatement(itemIds),
    );
    return new Map(rows.map((row) => [row.item_id, row.kilo_user_id]));
  }

  async forgetOld(): Promise<void> {
    for (let forgotten = FORGOTTEN_AT_ONCE; forgotten === FORGOTTEN_AT_ONCE; ) {
      forgotten = (await this.#run(forgetResponsesStatement(FORGOTTEN_AT_ONCE))).length;
    }
  }

  #run<Row>(statement: Parameters<Query>[0]): Promise<Row[]> {
    return this.#gate.run(() => this.#query<Row>(statement));
  }
}

function toOpenResponse(row: ResponseRow): OpenResponse {
  return {
    intent: {
      id: row.usage_id,
      kilo_user_id: row.kilo_user_id,
      organization_id: row.organization_id,
      api_key_id: row.api_key_id,
      api_kind: row.api_kind,
      requested_model: row.requested_model,
      created_at: row.created_at,
      input_tokens_estimate: Number(row.input_tokens_estimate),
      max_tokens: row.max_tokens === null ? null : Number(row.max_tokens),
      streamed: row.streamed,
    },
    response_id: row.response_id,
    upstream: row.upstream,
    projectId: row.project_id,
    details: row.details,
    looks: row.looks,
    isSettled: row.is_settled,
  };
}
