import type { AnswerUsage } from '../answer.js';
import type { Author } from '../author.js';
import type { Item } from './items.js';

export interface Content {
  items: Item[];
  /** Default `gpt-5-mini`. */
  model?: string;
  counts?: Partial<Pick<AnswerUsage, 'cacheHitTokens' | 'cacheWriteTokens' | 'reasoningTokens'>>;
  /** Why it ended early. */
  incomplete?: string;
  tools?: object[];
  /** Members that only newer answers have; their events are numbered at their end. */
  isNewer?: boolean;
}

/** What other tools used is no part of the response's own usage. */
const OTHER_TOOLS = {
  image_gen: {
    input_tokens: 5,
    input_tokens_details: { image_tokens: 3, text_tokens: 2 },
    output_tokens: 4,
    output_tokens_details: { image_tokens: 4, text_tokens: 0 },
    total_tokens: 9,
  },
  web_search: { num_requests: 0 },
};

/** One response, as a body and as the events that make it. */
export class ResponseAnswer {
  readonly usage: AnswerUsage;
  readonly #content: Content;
  readonly #cacheKey: string;

  constructor(author: Author, content: Content) {
    this.#content = content;
    const { items, counts = {}, model = 'gpt-5-mini' } = this.#content;
    const { cacheHitTokens = 0, cacheWriteTokens = 0, reasoningTokens = 0 } = counts;
    this.usage = {
      inputTokens: cacheHitTokens + cacheWriteTokens + author.count(20, 2_000),
      outputTokens: (reasoningTokens ?? 0) + items.length + author.count(10, 500),
      cacheWriteTokens,
      cacheHitTokens,
      reasoningTokens,
      model,
      messageId: author.id('resp_', 40),
    };
    this.#cacheKey = author.id('', 12);
  }

  body(state: 'in_progress' | 'done'): object {
    const { items, incomplete, tools = [], isNewer } = this.#content;
    const isDone = state === 'done';
    const ended = incomplete ? 'incomplete' : 'completed';
    return {
      id: this.usage.messageId,
      object: 'response',
      created_at: 1_790_000_000,
      status: isDone ? ended : 'in_progress',
      background: false,
      ...(isDone ? { billing: { payer: 'developer' } } : {}),
      completed_at: isDone ? 1_790_000_009 : null,
      error: null,
      frequency_penalty: 0,
      incomplete_details: isDone && incomplete ? { reason: incomplete } : null,
      instructions: null,
      max_output_tokens: incomplete ? 16 : null,
      max_tool_calls: null,
      model: this.usage.model,
      ...(isNewer ? { moderation: null } : {}),
      output: isDone ? items.map(({ done }) => done) : [],
      parallel_tool_calls: true,
      presence_penalty: 0,
      previous_response_id: null,
      prompt_cache_key: isNewer ? null : this.#cacheKey,
      prompt_cache_retention: isNewer ? '24h' : null,
      reasoning: {
        effort: 'medium',
        summary: isNewer ? null : 'detailed',
        ...(isNewer ? { context: 'auto', mode: 'auto' } : {}),
      },
      safety_identifier: null,
      service_tier: isDone ? 'default' : 'auto',
      store: true,
      temperature: 1,
      text: { format: { type: 'text' }, verbosity: 'medium' },
      tool_choice: 'auto',
      ...(isNewer ? { tool_usage: OTHER_TOOLS } : {}),
      tools,
      top_logprobs: 0,
      top_p: 1,
      truncation: 'disabled',
      usage: isDone ? this.#usageObject() : null,
      user: null,
      metadata: {},
    };
  }

  events(): string[] {
    const ended = `response.${this.#content.incomplete ? 'incomplete' : 'completed'}`;
    const events = [
      { type: 'response.created', response: this.body('in_progress') },
      { type: 'response.in_progress', response: this.body('in_progress') },
      ...this.#content.items.flatMap(({ added, events, done }, output_index) => [
        { type: 'response.output_item.added', output_index, item: added },
        ...events.map(({ type, ...rest }) => ({ type, item_id: done.id, output_index, ...rest })),
        { type: 'response.output_item.done', output_index, item: done },
      ]),
      { type: ended, response: this.body('done') },
    ];
    return events.map(({ type, ...rest }, sequence_number) =>
      JSON.stringify(
        this.#content.isNewer
          ? { type, ...rest, sequence_number }
          : { type, sequence_number, ...rest },
      ),
    );
  }

  #usageObject(): object {
    const { inputTokens, outputTokens, cacheWriteTokens, cacheHitTokens } = this.usage;
    const written = this.#content.isNewer ? { cache_write_tokens: cacheWriteTokens } : {};
    return {
      input_tokens: inputTokens,
      input_tokens_details: { ...written, cached_tokens: cacheHitTokens },
      output_tokens: outputTokens,
      output_tokens_details: { reasoning_tokens: this.usage.reasoningTokens },
      total_tokens: inputTokens + outputTokens,
    };
  }
}
