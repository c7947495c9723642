import fc from 'fast-check';
import { COUNT_NAMES } from '../../../src/gateway/processUsage/usageNames.js';

/** JSON of which JavaScript can make neither a text nor a number: to try throws. */
export const NEITHER = { toString: 0, valueOf: 0 };

/** Usage of any shape: the names that readers know, with any value under them. */
const NUMBERS = [
  0,
  -0,
  1,
  -1,
  7,
  0.5,
  1e3,
  1e12,
  1e13,
  1e21,
  1e300,
  -1e300,
  2 ** 53,
  5e-324,
  1.7976931348623157e308,
];
const TEXTS = [
  '',
  '0',
  '12',
  '-12',
  '1e9',
  '9'.repeat(400),
  '0x10',
  'NaN',
  'Infinity',
  '$1.25',
  '1.25 USD',
  '.5',
  '5.',
  '1e999',
  '\0',
  '\ud800',
  'é漢😀',
  'flex',
  'priority',
  'fast',
  'us',
  'low',
  'true',
];
const NAMES = [
  ...Object.values(COUNT_NAMES).flat(),
  'prompt_tokens_details',
  'completion_tokens_details',
  'input_tokens_details',
  'output_tokens_details',
  'cache_creation',
  'iterations',
  'server_tool_use',
  'tool_usage',
  'image_gen',
  'web_search',
  'num_requests',
  'web_search_requests',
  'server_side_tool_usage',
  'num_sources_used',
  'num_search_queries',
  'citation_tokens',
  'search_context_size',
  'audio_tokens',
  'image_tokens',
  'candidates_tokens_details',
  'modality',
  'tokenCount',
  'extra_properties',
  'google',
  'traffic_type',
  'prompt_audio_seconds',
  'seconds',
  'usage',
  'cost',
  'input',
  'output',
  'total_price',
  'usd_spent',
  'total_cost',
  'cost_in_usd_ticks',
  'estimated_cost',
  'cost_details',
  'upstream_inference_cost',
  'is_byok',
  'currency',
  'amount',
  'service_tier',
  'speed',
  'inference_geo',
  'type',
  'model',
  '__proto__',
  'constructor',
  'toString',
  '',
  '\0',
];
const MODELS = [
  'gpt-4o',
  'gpt-5',
  'claude-opus-4-7',
  'sonar',
  'grok-4.3',
  'mystery',
  '',
  '\0',
  '__proto__',
];

const leaf = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom<unknown>(...NUMBERS) },
  { weight: 4, arbitrary: fc.nat(100_000) },
  { weight: 2, arbitrary: fc.constantFrom<unknown>(...TEXTS) },
  { weight: 1, arbitrary: fc.constantFrom<unknown>(null, true, false, [], {}, NEITHER) },
  { weight: 1, arbitrary: fc.double() },
);

/** As JSON text, so that a name may be there twice, and any name be a name. */
const { value } = fc.letrec<{ value: string; object: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    { weight: 6, arbitrary: leaf.map((each) => JSON.stringify(each) ?? 'null') },
    { weight: 3, arbitrary: tie('object') },
    { weight: 1, arbitrary: fc.array(tie('value'), { maxLength: 3 }).map((all) => `[${all}]`) },
    { weight: 1, arbitrary: fc.json({ maxDepth: 3 }) },
  ),
  object: fc
    .array(fc.tuple(fc.constantFrom(...NAMES), tie('value')), { maxLength: 8 })
    .map((members) => `{${members.map(([name, each]) => `${JSON.stringify(name)}:${each}`)}}`),
}));

export const hostileUsage = value;

const model = fc.constantFrom(...MODELS).map((name) => JSON.stringify(name));
const word = fc.constantFrom('', 'word', 'é漢😀', '\\u0000');

/** An answer of each format around it, as one payload. */
export const hostilePayloads: Readonly<Record<string, fc.Arbitrary<string>>> = {
  'openai-chat': fc
    .tuple(model, value, value, value, word, fc.constantFrom('null', '"stop"', '7'))
    .map(
      ([name, usage, more, tier, text, reason]) =>
        `{"id":"c","model":${name},"service_tier":${tier},"usage":${usage},"cost":${more},` +
        `"result":${usage},"meta":${more},"choices":[{"index":${more},` +
        `"delta":{"content":"${text}"},"message":{"content":"${text}","usage":${usage},` +
        `"executed_tools":${more}},"usage":${tier},"finish_reason":${reason}}]}`,
    ),
  'openai-responses': fc
    .tuple(model, value, value, value, fc.constantFrom('created', 'completed', 'failed', 'x'))
    .map(([name, usage, tools, output, type]) => {
      const response =
        `"id":"r","model":${name},"usage":${usage},"tool_usage":${tools},"tools":${output},` +
        `"output":[${output},{"type":"image_generation_call"},{"type":"code_interpreter_call",` +
        `"container_id":${tools}}]`;
      return `{"type":"response.${type}","response":{${response}},"item":${output},${response}}`;
    }),
  'anthropic-messages': fc
    .tuple(
      model,
      value,
      value,
      fc.constantFrom('message_start', 'message_delta', 'message_stop', 'error'),
    )
    .map(
      ([name, usage, block, type]) =>
        `{"type":"${type}","model":${name},"usage":${usage},"content":[${block}],"delta":{` +
        `"stop_reason":"end_turn","text":${block}},"content_block":${block},` +
        `"amazon-bedrock-invocationMetrics":${block},` +
        `"message":{"id":"m","model":${name},"usage":${usage}}}`,
    ),
};
