import type pg from 'pg';
import { v7 as uuidv7 } from 'uuid';
import type { UsageEvent, UsageMetadata } from '../../src/record/types.js';
import { seededRandom } from './random.js';

/** Who writes: users, whether for an organization, and which of them a call is about. */
export interface Population {
  users: number;
  /** All events are one organization's. Default false: personal. */
  organization?: boolean;
  /** User number of the next event, 0 .. users-1. */
  draw(random: () => number): () => number;
  /** Days' rows exist already (the users were active earlier today). Default true. */
  activeToday?: boolean;
}

export type BenchEvent = UsageEvent & { id: string; metadata: UsageMetadata };

export const ORGANIZATION_ID = '0b5e7c1a-5f5e-4d6f-9a51-3f2f8c1d0e01';

export function userId(index: number): string {
  return `user-${String(index + 1).padStart(7, '0')}`;
}

/** Lookup values as a gateway sees them: few, and known after the first requests. */
const USER_AGENTS = ['cli/1.9.2', 'vscode/1.104.0', 'jetbrains/2026.2', 'sdk-node/4.1.0'];
const EDITORS = ['cli', 'vscode', 'jetbrains', null];
const FINISH_REASONS = ['stop', 'tool_calls', 'length'];
const MODELS = ['anthropic/claude-opus-5', 'openai/gpt-5.2', 'google/gemini-3-pro'];

/** Events of a population, drawn reproducibly; ids are time-ordered and new in every run. */
export function eventSource(population: Population, seed: number): () => BenchEvent {
  const random = seededRandom(seed);
  const draw = population.draw(random);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;
  const organizationId = population.organization ? ORGANIZATION_ID : null;
  return () => {
    const id = uuidv7();
    const model = pick(MODELS);
    const client = Math.floor(random() * USER_AGENTS.length);
    const inputTokens = 200 + Math.floor(random() * 20_000);
    return {
      id,
      kilo_user_id: userId(draw()),
      organization_id: organizationId,
      cost: 1 + Math.floor(random() * 100_000),
      input_tokens: inputTokens,
      output_tokens: 1 + Math.floor(random() * 2_000),
      cache_write_tokens: 0,
      cache_hit_tokens: Math.floor(inputTokens / 2),
      provider: 'openrouter',
      model,
      requested_model: model,
      inference_provider: 'primary',
      project_id: null,
      cache_discount: null,
      has_error: false,
      metadata: {
        message_id: `gen-${id}`,
        session_id: `session-${client}`,
        user_prompt_prefix: 'Refactor the parser so that it reports the line of an error',
        system_prompt_length: 5_120,
        max_tokens: 8_192,
        status_code: 200,
        latency: 812.5,
        generation_time: 4_210.25,
        has_tools: true,
        streamed: true,
        is_byok: false,
        http_user_agent: USER_AGENTS[client] ?? null,
        editor_name: EDITORS[client] ?? null,
        finish_reason: pick(FINISH_REASONS),
        api_kind: 'chat_completions',
        feature: 'agent',
      },
    };
  };
}

/** Fills an empty migrated database with the population's accounts, and vacuums it. */
export async function populate(pool: pg.Pool, population: Population): Promise<void> {
  await pool.query(
    `insert into kilocode_users (id)
    select 'user-' || lpad(i::text, 7, '0') from generate_series(1, $1::integer) as i`,
    [population.users],
  );
  if (population.organization) {
    await pool.query(`insert into organizations (id, name) values ($1, 'bench')`, [
      ORGANIZATION_ID,
    ]);
    await pool.query(
      `insert into organization_memberships (organization_id, kilo_user_id)
      select $1, id from kilocode_users`,
      [ORGANIZATION_ID],
    );
  }
  if (population.activeToday ?? true) {
    await pool.query(
      `insert into microdollar_usage_daily (kilo_user_id, organization_id, usage_date)
      select id, $1::uuid, (now() at time zone 'UTC')::date from kilocode_users`,
      [population.organization ? ORGANIZATION_ID : null],
    );
  }
  await pool.query('vacuum (analyze)');
}
