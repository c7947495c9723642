import type { Answer, AnswerUsage } from './answer.js';
import { Author } from './author.js';

/** One choice, whole and as the deltas that make it. */
interface Choice {
  message: object;
  deltas: object[];
  finishReason: string;
}

interface Completion {
  model: string;
  choices: Choice[];
  usage: object;
  /** Members of the whole and of every chunk that not every provider sends. */
  envelope: object;
  counts: Omit<AnswerUsage, 'model' | 'messageId'>;
}

type Kind = (author: Author) => Completion;

const KINDS: Record<string, Kind> = {
  text: (author) => openAi(author, { choices: [text(author, 60)] }),
  'long-text': (author) => openAi(author, { choices: [text(author, 420)] }),
  'two-choices': (author) => openAi(author, { choices: [text(author, 20), text(author, 30)] }),
  'cut-short': (author) =>
    openAi(author, { choices: [{ ...text(author, 16), finishReason: 'length' }] }),
  tools: (author) => openAi(author, { choices: [toolCalls(author)] }),
  refusal: (author) => openAi(author, { choices: [refusal(author)] }),
  reasoning: (author) =>
    openAi(author, {
      model: 'o4-mini',
      choices: [text(author, 24)],
      reasoningTokens: author.count(200, 900),
      cachedTokens: author.count(1_024, 2_048),
    }),
  compatible: (author) => compatible(author, text(author, 18)),
};

export function makeChatAnswers(): Answer[] {
  return Object.entries(KINDS).flatMap(([name, kind]) => {
    const author = new Author(`openai-chat ${name}`);
    const completion = kind(author);
    const id = author.id('chatcmpl-');
    const usage = { ...completion.counts, model: completion.model, messageId: id };
    const common = { api: 'openai-chat' as const, name, usage };
    return [
      { ...common, streamed: true, payloads: chunksOf(author, completion, id) },
      { ...common, streamed: false, payloads: [bodyOf(completion, id)] },
    ];
  });
}

function chunksOf(author: Author, completion: Completion, id: string): string[] {
  const { model, choices, usage, envelope } = completion;
  const chunk = (rest: object) =>
    JSON.stringify({
      id,
      object: 'chat.completion.chunk',
      created: 1_790_000_000,
      model,
      ...envelope,
      ...rest,
      obfuscation: author.id('', author.count(1, 12)),
    });
  const chunks = choices.flatMap(({ deltas, finishReason }, index) => {
    const choice = (delta: object, finish_reason: string | null) =>
      chunk({ choices: [{ index, delta, logprobs: null, finish_reason }], usage: null });
    return [...deltas.map((delta) => choice(delta, null)), choice({}, finishReason)];
  });
  return [...chunks, chunk({ choices: [], usage })];
}

function bodyOf({ model, choices, usage, envelope }: Completion, id: string): string {
  return JSON.stringify({
    id,
    object: 'chat.completion',
    created: 1_790_000_000,
    model,
    choices: choices.map(({ message, finishReason }, index) => ({
      index,
      message,
      logprobs: null,
      finish_reason: finishReason,
    })),
    usage,
    ...envelope,
  });
}

function text(author: Author, tokens: number): Choice {
  const pieces = author.tokens(tokens);
  return {
    message: { role: 'assistant', content: pieces.join(''), refusal: null, annotations: [] },
    deltas: [
      { role: 'assistant', content: '', refusal: null },
      ...pieces.map((content) => ({ content })),
    ],
    finishReason: 'stop',
  };
}

function refusal(author: Author): Choice {
  const pieces = author.tokens(9);
  return {
    message: { role: 'assistant', content: null, refusal: pieces.join(''), annotations: [] },
    deltas: [{ role: 'assistant', content: null }, ...pieces.map((each) => ({ refusal: each }))],
    finishReason: 'stop',
  };
}

/** Two calls at once; the arguments of each in pieces. */
function toolCalls(author: Author): Choice {
  const calls = [0, 1].map((index) => ({
    index,
    id: author.id('call_'),
    type: 'function',
    function: { name: 'test', arguments: JSON.stringify({ value: author.text(8) }) },
  }));
  const deltas = calls.flatMap(({ index, id, type, function: { name, arguments: all } }) => [
    { tool_calls: [{ index, id, type, function: { name, arguments: '' } }] },
    ...author.pieces(all).map((piece) => ({
      tool_calls: [{ index, function: { arguments: piece } }],
    })),
  ]);
  return {
    message: {
      role: 'assistant',
      content: null,
      tool_calls: calls.map(({ index: _index, ...call }) => call),
      refusal: null,
      annotations: [],
    },
    deltas: [{ role: 'assistant', content: null }, ...deltas],
    finishReason: 'tool_calls',
  };
}

function openAi(
  author: Author,
  options: { model?: string; choices: Choice[]; reasoningTokens?: number; cachedTokens?: number },
): Completion {
  const { model = 'gpt-4.1-nano', choices, reasoningTokens = 0, cachedTokens = 0 } = options;
  const inputTokens = cachedTokens + author.count(8, 900);
  const outputTokens =
    reasoningTokens + choices.reduce((sum, { deltas }) => sum + deltas.length, 0);
  return {
    model,
    choices,
    usage: {
      prompt_tokens: inputTokens,
      completion_tokens: outputTokens,
      total_tokens: inputTokens + outputTokens,
      prompt_tokens_details: { cached_tokens: cachedTokens, audio_tokens: 0 },
      completion_tokens_details: {
        reasoning_tokens: reasoningTokens,
        audio_tokens: 0,
        accepted_prediction_tokens: 0,
        rejected_prediction_tokens: 0,
      },
    },
    envelope: { service_tier: 'default', system_fingerprint: author.id('fp_', 10) },
    counts: {
      inputTokens,
      outputTokens,
      cacheWriteTokens: 0,
      cacheHitTokens: cachedTokens,
      reasoningTokens,
    },
  };
}

/** As others speak this format: bare totals, and a model that no price list knows. */
function compatible(author: Author, choice: Choice): Completion {
  const inputTokens = author.count(8, 900);
  const outputTokens = choice.deltas.length;
  return {
    model: 'model-of-our-own-1',
    choices: [choice],
    usage: {
      prompt_tokens: inputTokens,
      completion_tokens: outputTokens,
      total_tokens: inputTokens + outputTokens,
    },
    envelope: {},
    counts: {
      inputTokens,
      outputTokens,
      cacheWriteTokens: 0,
      cacheHitTokens: 0,
      reasoningTokens: null,
    },
  };
}
