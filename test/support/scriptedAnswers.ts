/** What a scripted provider is to say. */
export interface Script {
  model: string;
  /** The request asked for the chat stream's usage. */
  asksUsage: boolean;
  /** Null: a few words. */
  tool: { name: string; input: object } | null;
  /** Default: few. */
  tokens?: { input: number; output: number };
}

/** One answer, whole and as a stream: `opening` and `events`, or `opening` and `word` for ever. */
export interface Answer {
  whole: object;
  opening: string[];
  word: string;
  events: string[];
}

export const WORDS = ['Good', ' morning', ', world', '.'];
const TEXT = WORDS.join('');
const FEW_TOKENS = { input: 9, output: 4 };
const CREATED = 1_764_000_000;

function toEvent(name: string | null, payload: object): string {
  return `${name === null ? '' : `event: ${name}\n`}data: ${JSON.stringify(payload)}\n\n`;
}

function writeChat({ model, asksUsage, tool, tokens = FEW_TOKENS }: Script): Answer {
  const usage = {
    prompt_tokens: tokens.input,
    completion_tokens: tokens.output,
    total_tokens: tokens.input + tokens.output,
  };
  const base = { id: 'chatcmpl-1', created: CREATED, model, system_fingerprint: 'fp' };
  const calls = tool && [
    {
      id: 'call_1',
      type: 'function',
      function: { name: tool.name, arguments: JSON.stringify(tool.input) },
    },
  ];
  const finish = tool ? 'tool_calls' : 'stop';
  const content = tool ? null : TEXT;
  const message = {
    role: 'assistant',
    content,
    refusal: null,
    ...(calls && { tool_calls: calls }),
  };
  const chunk = (delta: object, finishReason: string | null = null) =>
    toEvent(null, {
      ...base,
      object: 'chat.completion.chunk',
      choices: [{ index: 0, delta, logprobs: null, finish_reason: finishReason }],
      ...(asksUsage ? { usage: null } : {}),
    });
  const last = { ...base, object: 'chat.completion.chunk', choices: [], usage };
  return {
    whole: {
      ...base,
      object: 'chat.completion',
      choices: [{ index: 0, message, logprobs: null, finish_reason: finish }],
      usage,
    },
    opening: [chunk({ role: 'assistant', content: '' })],
    word: chunk({ content: 'word ' }),
    events: [
      ...(calls
        ? [chunk({ tool_calls: calls.map((each) => ({ index: 0, ...each })) })]
        : WORDS.map((word) => chunk({ content: word }))),
      chunk({}, finish),
      ...(asksUsage ? [toEvent(null, last)] : []),
      'data: [DONE]\n\n',
    ],
  };
}

function writeMessages({ model, tool, tokens = FEW_TOKENS }: Script): Answer {
  const block = tool
    ? { type: 'tool_use', id: 'toolu_1', name: tool.name, input: {} }
    : { type: 'text', text: '' };
  const stopReason = tool ? 'tool_use' : 'end_turn';
  const usage = { input_tokens: tokens.input, output_tokens: tokens.output };
  const message = { id: 'msg_1', type: 'message', role: 'assistant', model, stop_sequence: null };
  const whole = tool ? { ...block, input: tool.input } : { ...block, text: TEXT };
  const event = (type: string, more: object = {}) => toEvent(type, { type, ...more });
  const textDelta = (text: string) =>
    event('content_block_delta', { index: 0, delta: { type: 'text_delta', text } });
  const input = { type: 'input_json_delta', partial_json: JSON.stringify(tool?.input) };
  return {
    whole: { ...message, content: [whole], stop_reason: stopReason, usage },
    opening: [
      event('message_start', { message: { ...message, content: [], stop_reason: null, usage } }),
      event('content_block_start', { index: 0, content_block: block }),
      event('ping'),
    ],
    word: textDelta('word '),
    events: [
      ...(tool ? [event('content_block_delta', { index: 0, delta: input })] : WORDS.map(textDelta)),
      event('content_block_stop', { index: 0 }),
      event('message_delta', {
        delta: { stop_reason: stopReason, stop_sequence: null },
        usage: { output_tokens: tokens.output },
      }),
      event('message_stop'),
    ],
  };
}

function writeResponses({ model, tool, tokens = FEW_TOKENS }: Script): Answer {
  const usage = {
    input_tokens: tokens.input,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: tokens.output,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: tokens.input + tokens.output,
  };
  const base = { id: 'resp_1', object: 'response', created_at: CREATED, model, error: null };
  const text = { type: 'output_text', annotations: [], logprobs: [], text: TEXT };
  const call = tool && {
    id: 'fc_1',
    type: 'function_call',
    call_id: 'call_1',
    name: tool.name,
    arguments: JSON.stringify(tool.input),
    status: 'completed',
  };
  const message = { id: 'msg_1', type: 'message', role: 'assistant', status: 'completed' };
  const item = call ?? { ...message, content: [text] };
  const begun = { ...base, status: 'in_progress', output: [], usage: null };
  const done = { ...base, status: 'completed', output: [item], usage };
  let number = 0;
  const event = (type: string, more: object) =>
    toEvent(type, { type, sequence_number: number++, ...more });
  const place = { item_id: item.id, output_index: 0 };
  const textDelta = (delta: string) =>
    event('response.output_text.delta', { ...place, content_index: 0, delta, logprobs: [] });
  const empty = call ? { ...call, arguments: '' } : { ...message, content: [] };
  const opening = [
    event('response.created', { response: begun }),
    event('response.output_item.added', { output_index: 0, item: empty }),
    ...(call
      ? []
      : [
          event('response.content_part.added', {
            ...place,
            content_index: 0,
            part: { ...text, text: '' },
          }),
        ]),
  ];
  return {
    whole: done,
    opening,
    word: textDelta('word '),
    events: [
      ...(call
        ? [event('response.function_call_arguments.done', { ...place, arguments: call.arguments })]
        : WORDS.map(textDelta)),
      event('response.output_item.done', { output_index: 0, item }),
      event('response.completed', { response: done }),
    ],
  };
}

export const WRITERS = {
  chat: writeChat,
  responses: writeResponses,
  messages: writeMessages,
} as const;
