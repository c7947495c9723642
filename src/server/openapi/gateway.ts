import { ENDPOINTS, type Endpoint } from '../../gateway/proxy/endpoints.js';
import { refTo } from './jsonSchema.js';
import { toHeaderParameters, toHeaders } from './toOperation.js';
import type { Method, OpenApiDocument, Operation, Parameter } from './types.js';

const SAID = {
  metered: 'Metered: needs credit, priced and recorded.',
  free: 'Free: passed on, no credit needed.',
  owned: 'Of one stored response: for the key that made it, and no other.',
} as const satisfies Record<Endpoint['use'], string>;

const PROVIDER = {
  openai: 'an OpenAI-compatible provider',
  anthropic: 'an Anthropic-compatible provider',
  either: 'Anthropic where the client sends `anthropic-version`, else OpenAI',
} as const;

const REQUEST_HEADER_NAMES = [
  'x-microdollar-organization-id',
  'x-microdollar-feature',
  'x-microdollar-mode',
  'x-microdollar-end-user',
  'x-microdollar-session',
  'x-microdollar-project',
  'x-microdollar-tags',
];

const REFUSAL_HEADER_NAMES = [
  'retry-after',
  'x-should-retry',
  'x-microdollar-budget-id',
  'x-microdollar-available-microdollars',
  'x-microdollar-resets-at',
];

/** Their bodies are forms with a file. */
const FORMS: readonly string[] = [
  '/v1/images/edits',
  '/v1/audio/transcriptions',
  '/v1/audio/translations',
];

/** The table of endpoints as paths. */
export function gatewayPaths(): OpenApiDocument['paths'] {
  const paths: OpenApiDocument['paths'] = {};
  for (const endpoint of ENDPOINTS) {
    const method = endpoint.method.toLowerCase() as Method;
    paths[endpoint.path] = { ...paths[endpoint.path], [method]: toGatewayOperation(endpoint) };
  }
  return paths;
}

function toGatewayOperation(endpoint: Endpoint): Operation {
  const { kind, method, path, provider, use } = endpoint;
  const isMetered = use === 'metered';
  const type = FORMS.includes(path) ? 'multipart/form-data' : 'application/json';
  const hasBody = method === 'POST' && use !== 'owned';
  const parameters = [
    ...pathParameters(path),
    ...(isMetered ? toHeaderParameters(REQUEST_HEADER_NAMES) : []),
  ];
  return {
    operationId: path.includes('{model}') ? `gateway_${kind}_one` : `gateway_${kind}`,
    tags: ['gateway'],
    summary: `${method} ${path}`,
    description: `${SAID[use]} Goes to ${PROVIDER[provider]}.`,
    security: [{ key: [] }, { apiKeyHeader: [] }],
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(hasBody
      ? {
          requestBody: {
            required: true,
            content: { [type]: { schema: refTo('ProviderRequest') } },
          },
        }
      : {}),
    responses: {
      200: {
        description: "The provider's answer, to the byte; a stream as it arrives",
        headers: toHeaders([
          'x-request-id',
          'x-microdollar-request-id',
          ...(isMetered ? ['x-microdollar-usage-id', 'x-microdollar-output-limit'] : []),
        ]),
        content: { '*/*': { schema: {} } },
      },
      default: {
        description:
          'An error of the gateway, in the words of the API that was called; or the ' +
          "provider's own, to the byte",
        headers: toHeaders(REFUSAL_HEADER_NAMES),
        content: {
          'application/json': {
            schema: refTo(provider === 'anthropic' ? 'AnthropicError' : 'OpenAIError'),
          },
        },
      },
    },
    'x-scope': 'gateway',
  };
}

function pathParameters(path: string): Parameter[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => ({
    name,
    in: 'path',
    required: true,
    ...(name === 'model' ? { description: 'May hold slashes.' } : {}),
    schema: { type: 'string' },
  }));
}
