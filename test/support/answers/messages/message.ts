import type { AnswerUsage } from '../answer.js';
import type { Author } from '../author.js';
import type { Block, Json } from './blocks.js';

export interface Content {
  blocks: Block[];
  /** Default `claude-sonnet-4-5-20250929`. */
  model?: string;
  /** Default `end_turn`. */
  stopReason?: string;
  /** Prompt tokens apart from the cache's, where the kind must know them. */
  inputTokens?: number;
  cacheRead?: number;
  cacheWrite5m?: number;
  cacheWrite1h?: number;
  thinkingTokens?: number;
  /** Work of the same model that the totals leave out. */
  compaction?: { input_tokens: number; output_tokens: number };
  /** Work of another model. */
  advisor?: { model: string; input_tokens: number; output_tokens: number };
  /** Prompt tokens at the start of the stream, where the provider's own tools add to them. */
  startedWith?: number;
  webSearches?: number;
  /** Of the last event and of the body. */
  more?: Json;
  /** `bare`: no details, no cache, the prompt only at the start, as proxies make them. */
  style?: 'full' | 'bare' | 'nulls';
}

const NOTHING_CACHED = {
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: 0,
  cache_creation: { ephemeral_5m_input_tokens: 0, ephemeral_1h_input_tokens: 0 },
};

/** One message, as a body and as the events that make it. */
export class MessageAnswer {
  readonly usage: AnswerUsage;
  readonly #content: Content;
  readonly #inputTokens: number;
  readonly #outputTokens: number;

  constructor(author: Author, content: Content) {
    const { cacheRead = 0, cacheWrite5m = 0, cacheWrite1h = 0, compaction } = content;
    this.#content = content;
    this.#inputTokens = content.inputTokens ?? author.count(10, 2_000);
    this.#outputTokens = (content.thinkingTokens ?? 0) + author.count(5, 900);
    this.usage = {
      inputTokens:
        this.#inputTokens +
        cacheRead +
        cacheWrite5m +
        cacheWrite1h +
        (compaction?.input_tokens ?? 0),
      outputTokens: this.#outputTokens + (compaction?.output_tokens ?? 0),
      cacheWriteTokens: cacheWrite5m + cacheWrite1h,
      cacheHitTokens: cacheRead,
      reasoningTokens: content.thinkingTokens ?? null,
      model: content.model ?? 'claude-sonnet-4-5-20250929',
      messageId: author.id('msg_'),
    };
  }

  body(): Json {
    const { blocks, stopReason = 'end_turn', more = {} } = this.#content;
    return {
      ...this.#frame(blocks.map(({ done }) => done)),
      stop_reason: stopReason,
      stop_sequence: null,
      stop_details: null,
      usage: { ...this.#startUsage(this.#inputTokens, this.#outputTokens), ...this.#endUsage() },
      ...more,
    };
  }

  events(): Json[] {
    const { blocks } = this.#content;
    return [
      this.start(),
      ...blocks.flatMap(({ start, deltas }, index) => [
        { type: 'content_block_start', index, content_block: start },
        ...(index === 0 ? [{ type: 'ping' }] : []),
        ...deltas.map((delta) => ({ type: 'content_block_delta', index, delta })),
        { type: 'content_block_stop', index },
      ]),
      this.#end(),
      { type: 'message_stop' },
    ];
  }

  start(): Json {
    const startedWith = this.#content.startedWith ?? this.#inputTokens;
    const usage = this.#startUsage(startedWith, 1);
    return {
      type: 'message_start',
      message: {
        ...this.#frame([]),
        stop_reason: null,
        stop_sequence: null,
        stop_details: null,
        usage,
      },
    };
  }

  #end(): Json {
    const { stopReason = 'end_turn', more = {}, style = 'full' } = this.#content;
    const { context_management, ...details } = more;
    const said = {
      bare: {},
      nulls: { cache_creation_input_tokens: null, cache_read_input_tokens: null },
      full: this.#cacheTotals(),
    }[style];
    return {
      type: 'message_delta',
      delta: { stop_reason: stopReason, stop_sequence: null, stop_details: null, ...details },
      usage: {
        ...(style === 'bare' ? {} : { input_tokens: this.#inputTokens }),
        ...said,
        output_tokens: this.#outputTokens,
        ...this.#endUsage(),
      },
      ...(context_management === undefined ? {} : { context_management }),
    };
  }

  #frame(content: Json[]): Json {
    const { model, messageId: id } = this.usage;
    return { model, id, type: 'message', role: 'assistant', content };
  }

  #startUsage(input_tokens: number, output_tokens: number): Json {
    const { cacheWrite5m = 0, cacheWrite1h = 0, style } = this.#content;
    if (style === 'bare') return { input_tokens, output_tokens };
    return {
      input_tokens,
      ...this.#cacheTotals(),
      cache_creation: {
        ephemeral_5m_input_tokens: cacheWrite5m,
        ephemeral_1h_input_tokens: cacheWrite1h,
      },
      output_tokens,
      service_tier: 'standard',
      inference_geo: 'global',
    };
  }

  #cacheTotals(): Json {
    return {
      cache_creation_input_tokens: this.usage.cacheWriteTokens,
      cache_read_input_tokens: this.usage.cacheHitTokens,
    };
  }

  /** What is known at the end alone. */
  #endUsage(): Json {
    const { compaction, advisor, thinkingTokens, webSearches } = this.#content;
    const own = { input_tokens: this.#inputTokens, output_tokens: this.#outputTokens };
    const iterations = [
      ...(compaction ? [{ type: 'compaction', ...compaction }] : []),
      { type: 'message', ...own, ...NOTHING_CACHED },
      ...(advisor ? [{ type: 'advisor_message', ...advisor, ...NOTHING_CACHED }] : []),
    ];
    return {
      ...(iterations.length > 1 ? { iterations } : {}),
      ...(thinkingTokens === undefined
        ? {}
        : { output_tokens_details: { thinking_tokens: thinkingTokens } }),
      ...(webSearches === undefined
        ? {}
        : { server_tool_use: { web_search_requests: webSearches, web_fetch_requests: 0 } }),
    };
  }
}
