import type { UsageEvent } from '../record/types.js';
import {
  RowProblem,
  readAmount,
  readBoolean,
  readCost,
  readCount,
  readCut,
  readNumber,
  readText,
  readTime,
} from './foreignCells.js';
import { type ForeignColumns, type ForeignRow, readForeignRows } from './foreignRows.js';
import type { ImportNotes } from './importNotes.js';
import { Occurrences } from './occurrences.js';
import type { ForeignPayer } from './readLitellm.js';
import { hashOccurrence, idOfKey } from './rowIds.js';
import type { EventReader, ImportedLine } from './types.js';

const COLUMNS: ForeignColumns = {
  source: "OpenRouter's activity",
  used: [
    // A row a generation.
    'generation_id',
    'created_at',
    'cost_total',
    'tokens_prompt',
    'tokens_completion',
    'tokens_reasoning',
    'tokens_cached',
    'variant',
    'cancelled',
    'streamed',
    'user',
    'finish_reason_normalized',
    'generation_time_ms',
    'time_to_first_token_ms',
    'app_name',
    'api_key_name',
    // A row a day, model and provider.
    'date',
    'model',
    'endpoint_id',
    'usage',
    'requests',
    'prompt_tokens',
    'completion_tokens',
    'reasoning_tokens',
    // Both.
    'byok_usage_inference',
    'model_permaslug',
    'provider_name',
  ],
  unused: [
    // Parts of cost_total.
    'cost_web_search',
    'cost_cache',
    'cost_file_processing',
    'finish_reason_raw',
    'api_key_disabled',
    'byok_requests',
  ],
  oneOf: [
    ['created_at', 'cost_total'],
    ['date', 'usage'],
  ],
  takesJson: false,
};

/**
 * The CSV of OpenRouter's activity: a row a generation, or a row a day, model and provider. The export
 * names no account of the ledger, so the payer is given.
 *
 * - a generation's identity is its `generation_id`; a day's is what it is the sum of, so that a sum
 *   that has changed since is refused as a conflict, and not added to what it was
 * - api_key_name -> api_key_id, a UUID made of it; app_name -> project_id; user -> end_user
 * - cost_total is what was charged; what a key of one's own paid elsewhere is `metadata.market_cost`
 */
export function createOpenrouterReader(
  payer: ForeignPayer & { kiloUserId: string },
  notes: ImportNotes,
): EventReader {
  return async function* readOpenrouter(lines): AsyncGenerator<ImportedLine> {
    const days = new Occurrences();
    for await (const item of readForeignRows(lines, COLUMNS, notes)) {
      if ('problem' in item) {
        yield item;
        continue;
      }
      try {
        yield toImportedLine(item.line, item.row, payer, days, notes);
      } catch (error) {
        if (!(error instanceof RowProblem)) throw error;
        yield { line: item.line, problem: error.message };
      }
    }
  };
}

function toImportedLine(
  line: number,
  row: ForeignRow,
  payer: ForeignPayer & { kiloUserId: string },
  days: Occurrences,
  notes: ImportNotes,
): ImportedLine {
  if (row.has('date') && !row.has('createdat')) {
    const event = toEvent(row, payer, DAY_COLUMNS, notes);
    if (readCount('requests', row.get('requests')) > 1) {
      notes.leftOut('the number of requests of a row that sums several: it counts as one');
    }
    const keys = ['modelpermaslug', 'model', 'endpointid', 'providername', 'apikeyname'];
    const parts = [event.created_at, ...keys.map((key) => readText(row.get(key)))];
    const key = hashOccurrence(JSON.stringify(parts), days).toString('hex');
    return { line, event, key };
  }
  const event = toEvent(row, payer, GENERATION_COLUMNS, notes);
  const id = readText(row.get('generationid'))?.trim();
  return { line, event, ...(id === undefined ? {} : { key: id }) };
}

const GENERATION_COLUMNS = {
  time: 'created_at',
  cost: 'cost_total',
  input: 'tokens_prompt',
  output: 'tokens_completion',
  reasoning: 'tokens_reasoning',
} as const;

const DAY_COLUMNS = {
  time: 'date',
  cost: 'usage',
  input: 'prompt_tokens',
  output: 'completion_tokens',
  reasoning: 'reasoning_tokens',
} as const;

function toEvent(
  row: ForeignRow,
  payer: ForeignPayer & { kiloUserId: string },
  columns: typeof GENERATION_COLUMNS | typeof DAY_COLUMNS,
  notes: ImportNotes,
): UsageEvent {
  const cell = (column: string) => row.get(column.replaceAll('_', ''));
  const cost = readCost(columns.cost, cell(columns.cost), notes);
  const inputTokens = readCount(columns.input, cell(columns.input));
  const outputTokens = readCount(columns.output, cell(columns.output));
  const elsewhere = readAmount('byok_usage_inference', cell('byok_usage_inference')) ?? 0;
  const name = readCut(cell('model_permaslug'), 500) ?? readCut(cell('model'), 500);
  const variant = readCut(cell('variant'), 10);
  const hasVariant = name !== null && variant !== null && variant !== 'standard';
  const model = hasVariant && !name.includes(':') ? `${name}:${variant}` : name;
  const hasError = readText(cell('finish_reason_normalized'))?.toLowerCase() === 'error';
  const isFree = hasError || variant === 'free' || model?.endsWith(':free') === true;
  if (
    Number(cell(columns.cost)) === 0 &&
    elsewhere === 0 &&
    !isFree &&
    inputTokens + outputTokens > 0
  ) {
    notes.withoutCost(model);
  }
  const key = readText(cell('api_key_name'))?.trim();
  const apiKeyId = key === undefined ? null : idOfKey('openrouter key', key);
  if (key !== undefined && apiKeyId !== null) notes.key(key.slice(0, 100), apiKeyId);
  return {
    kilo_user_id: payer.kiloUserId,
    organization_id: payer.organizationId ?? null,
    cost,
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    cache_hit_tokens: readCount('tokens_cached', cell('tokens_cached')),
    created_at: readTime(columns.time, cell(columns.time)).text,
    provider: 'openrouter',
    inference_provider: readCut(cell('provider_name'), 512),
    model,
    project_id: readCut(cell('app_name'), 512),
    api_key_id: apiKeyId,
    end_user: readCut(cell('user'), 256),
    has_error: hasError,
    metadata: {
      upstream_id: readCut(cell('generation_id'), 1024),
      reasoning_tokens: readCount(columns.reasoning, cell(columns.reasoning)) || null,
      finish_reason: readCut(cell('finish_reason_normalized'), 512),
      cancelled: readBoolean(cell('cancelled')),
      streamed: readBoolean(cell('streamed')),
      latency: readNumber(cell('time_to_first_token_ms')),
      generation_time: readNumber(cell('generation_time_ms')),
      is_byok: elsewhere === 0 ? null : true,
      market_cost: elsewhere === 0 ? null : elsewhere,
      price_source: 'openrouter',
    },
  };
}
