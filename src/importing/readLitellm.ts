import type { UsageEvent } from '../record/types.js';
import {
  RowProblem,
  readBoolean,
  readCost,
  readCount,
  readCut,
  readNumber,
  readObject,
  readTags,
  readText,
  readTime,
} from './foreignCells.js';
import { type ForeignColumns, type ForeignRow, readForeignRows } from './foreignRows.js';
import type { ImportNotes } from './importNotes.js';
import { idOfKey } from './rowIds.js';
import type { EventReader, ImportedLine } from './types.js';

/** Who pays where the export does not say it in the ledger's terms. */
export interface ForeignPayer {
  /** Of rows that name no user. */
  kiloUserId?: string;
  /** Every row is this organization's, not the one it names. */
  organizationId?: string;
}

const COLUMNS: ForeignColumns = {
  source: 'LiteLLM_SpendLogs',
  used: [
    'request_id',
    'call_type',
    'api_key',
    'spend',
    'total_tokens',
    'prompt_tokens',
    'completion_tokens',
    'startTime',
    'endTime',
    'completionStartTime',
    'model',
    'model_group',
    'custom_llm_provider',
    'user',
    'metadata',
    'cache_hit',
    'request_tags',
    'team_id',
    'organization_id',
    'end_user',
    'session_id',
    'status',
  ],
  unused: [
    'request_duration_ms',
    'model_id',
    'api_base',
    'cache_key',
    'requester_ip_address',
    'messages',
    'response',
    'mcp_namespaced_tool_name',
    'agent_id',
    'proxy_server_request',
  ],
  oneOf: [['spend', 'startTime']],
  takesJson: true,
};

/** Of what another row made; LiteLLM repeats its tokens and its cost. */
const FETCHES = /^a?((get|delete|cancel)_responses|list_input_items)$/;

/**
 * Rows of LiteLLM's table `LiteLLM_SpendLogs`, as CSV or JSON Lines. Its key, `request_id`, is the row's
 * identity; a row without one has its content's.
 *
 * - user -> kilo_user_id; organization_id -> organization_id; team_id -> project_id, where the
 *   metadata names no project
 * - api_key (a hash) -> api_key_id, a UUID made of it
 * - model_group -> requested_model; startTime -> created_at, by which LiteLLM reports days
 * - cache tokens from the metadata; where they exceed prompt_tokens they are not part of it, or the
 *   writes alone are not, where the total has no room for them and prompt_tokens has for the reads
 * - a response that was fetched again is no usage
 */
export function createLitellmReader(payer: ForeignPayer, notes: ImportNotes): EventReader {
  return async function* readLitellm(lines): AsyncGenerator<ImportedLine> {
    for await (const item of readForeignRows(lines, COLUMNS, notes)) {
      if ('problem' in item) {
        yield item;
        continue;
      }
      if (FETCHES.test(readText(item.row.get('calltype')) ?? '')) {
        notes.leftOut(
          'rows of responses that were fetched again: the row that made one has its cost',
        );
        continue;
      }
      try {
        const requestId = readText(item.row.get('requestid'));
        yield {
          line: item.line,
          event: toEvent(item.row, payer, notes),
          ...(requestId === null ? {} : { key: requestId.trim() }),
        };
      } catch (error) {
        if (!(error instanceof RowProblem)) throw error;
        yield { line: item.line, problem: error.message };
      }
    }
  };
}

function toEvent(row: ForeignRow, payer: ForeignPayer, notes: ImportNotes): UsageEvent {
  const metadata = readObject(row.get('metadata'));
  const kiloUserId = readText(row.get('user')) ?? payer.kiloUserId;
  if (kiloUserId === undefined) throw new RowProblem('user is empty: say whose it is with --user');
  const cost = readCost('spend', row.get('spend'), notes);
  const tokens = readTokens(row, metadata);
  const hasError = readText(row.get('status'))?.toLowerCase() === 'failure';
  const startedAt = readTime('startTime', row.get('starttime'));
  const model = readCut(row.get('model'), 512) ?? readCut(row.get('modelgroup'), 512);
  const isFree = hasError || readBoolean(row.get('cachehit')) === true;
  if (Number(row.get('spend')) === 0 && !isFree && tokens.input_tokens + tokens.output_tokens > 0) {
    notes.withoutCost(model);
  }
  return {
    kilo_user_id: kiloUserId,
    organization_id: payer.organizationId ?? readText(row.get('organizationid')),
    cost,
    ...tokens,
    created_at: startedAt.text,
    provider: readCut(row.get('customllmprovider'), 512),
    model,
    requested_model: readCut(row.get('modelgroup'), 512),
    project_id: readCut(metadata.user_api_key_project_id, 512) ?? readCut(row.get('teamid'), 512),
    api_key_id: readKey(row, metadata, notes),
    end_user: readCut(row.get('enduser'), 256),
    session_id: readCut(row.get('sessionid'), 256),
    tags: readTags(row.get('requesttags'), notes),
    has_error: hasError,
    metadata: {
      api_kind: readCut(row.get('calltype'), 512),
      upstream_id: readCut(row.get('requestid'), 1024),
      status_code: readStatusCode(metadata),
      ...readDurations(row, startedAt.epochMs),
      price_source: 'litellm',
    },
  };
}

/** LiteLLM counts all prompt tokens, as the ledger does; old versions left out cached ones. */
function readTokens(row: ForeignRow, metadata: Readonly<Record<string, unknown>>) {
  const usage = readObject(metadata.usage_object);
  const additional = readObject(metadata.additional_usage_values);
  const details = readObject(usage.prompt_tokens_details);
  // Under several names, of which one may be 0 where another tells.
  const ofCache = (field: string, ...others: string[]) =>
    Math.max(
      ...[usage, additional].map((place) => readCount(field, place[field] ?? undefined)),
      ...others.map((other) => readCount(other, details[other] ?? undefined)),
    );
  const hit = ofCache('cache_read_input_tokens', 'cached_tokens');
  const written = ofCache(
    'cache_creation_input_tokens',
    'cache_creation_tokens',
    'cache_write_tokens',
  );
  const prompt = readCount('prompt_tokens', row.get('prompttokens'));
  const output = readCount('completion_tokens', row.get('completiontokens'));
  const total = readCount('total_tokens', row.get('totaltokens'));
  const input = prompt === 0 && output === 0 ? total : prompt;
  const areReadsWithin = hit <= input && total === input + output;
  const beside = hit + written <= input ? 0 : areReadsWithin ? written : hit + written;
  return {
    input_tokens: input + beside,
    output_tokens: output,
    cache_hit_tokens: hit,
    cache_write_tokens: written,
  };
}

function readKey(
  row: ForeignRow,
  metadata: Readonly<Record<string, unknown>>,
  notes: ImportNotes,
): string | null {
  const hash = readText(row.get('apikey'))?.trim();
  if (hash === undefined || hash === '') return null;
  const id = idOfKey('litellm key', hash);
  // The column may hold a key itself (old versions, the master key): never printed.
  const alias = readCut(metadata.user_api_key_alias, 100);
  notes.key(alias ?? (/^[0-9a-f]{64}$/.test(hash) ? hash.slice(0, 8) : 'unnamed'), id);
  return id;
}

function readStatusCode(metadata: Readonly<Record<string, unknown>>): number | null {
  const code = readNumber(readObject(metadata.error_information).error_code);
  return code !== null && Number.isInteger(code) && code > 0 && code < 1_000 ? code : null;
}

/** Milliseconds; left out where the clock went backwards. */
function readDurations(row: ForeignRow, startedAtMs: number) {
  const end = row.get('endtime');
  const first = row.get('completionstarttime');
  const endedAtMs = end === undefined ? null : readTime('endTime', end).epochMs;
  const firstAtMs = first === undefined ? null : readTime('completionStartTime', first).epochMs;
  const span = (from: number, until: number | null) =>
    until === null || until < from ? null : until - from;
  return {
    latency: span(startedAtMs, firstAtMs),
    generation_time: span(firstAtMs ?? startedAtMs, endedAtMs),
  };
}
