import { SCOPES, type Scope } from '../../accounts/scopes.js';
import { type ErrorCode, HTTP_STATUS } from '../../errors.js';
import { readPackageVersion } from '../../packageFiles.js';
import type { JsonSchema } from '../../record/eventSchema.js';
import { ANSWERS } from './answers.js';
import { listErrors, listGatewayErrors } from './errorHelp.js';
import { gatewayPaths } from './gateway.js';
import { listHeaders } from './headers.js';
import { refTo, toJsonSchema } from './jsonSchema.js';
import { accountOperations, accountSchemas } from './operations/accounts.js';
import { alertOperations, alertSchemas } from './operations/alerts.js';
import { budgetOperations, budgetSchemas } from './operations/budgets.js';
import { holdOperations, holdSchemas } from './operations/holds.js';
import { reportOperations } from './operations/reports.js';
import { serviceOperations } from './operations/service.js';
import { usageOperations, usageSchemas } from './operations/usage.js';
import { toOperation } from './toOperation.js';
import { trpcPaths } from './trpc.js';
import { type OpenApiDocument, type OperationDoc, TAGS } from './types.js';

const DESCRIPTION = `A usage ledger for AI gateways, exact to the microdollar (1 USD = 1,000,000).

JSON over HTTP with \`Authorization: Bearer <key>\`. Amounts are whole microdollars; a sum past 2^53 is a
decimal string. Days are UTC, ranges inclusive at both ends.

Every write has an \`id\` that makes a retry safe: the same again answers \`duplicate\` and changes
nothing. After 503, a timeout or a lost connection send the same again, with the same ids.`;

const SCOPE_HELP = {
  admin: 'Everything: users, organizations, keys, credits, budgets, the console.',
  'usage:write':
    "Records usage and holds money: of a user's key for that user alone, of a service key for any user.",
  'usage:read': "Reads usage, budgets and alerts, of those that the key's user may see.",
  gateway: 'Calls providers through the gateway.',
} as const satisfies Record<Scope, string>;

/** The routes of the server, beside tRPC and the gateway. */
export const OPERATIONS: readonly OperationDoc[] = [
  ...usageOperations,
  ...holdOperations,
  ...reportOperations,
  ...accountOperations,
  ...budgetOperations,
  ...alertOperations,
  ...serviceOperations,
];

/** The API of this version, made from the schemas that its routes validate with. */
export function openApiDocument(): OpenApiDocument {
  return {
    openapi: '3.1.0',
    info: {
      title: 'microdollar',
      version: readPackageVersion(),
      description: DESCRIPTION,
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/', description: 'Where this document is served from' }],
    security: [{ key: [] }],
    tags: Object.entries(TAGS).map(([name, description]) => ({ name, description })),
    paths: { ...routePaths(), ...trpcPaths(), ...gatewayPaths() },
    components: {
      schemas: schemas(),
      securitySchemes: {
        key: { type: 'http', scheme: 'bearer', description: 'A key; `x-scope` says which scope.' },
        apiKeyHeader: { type: 'apiKey', in: 'header', name: 'x-api-key' },
      },
    },
    'x-microdollar': {
      scopes: Object.fromEntries(SCOPES.map((scope) => [scope, SCOPE_HELP[scope]])),
      errors: listErrors(),
      gateway_errors: listGatewayErrors(),
      headers: listHeaders(),
    },
  };
}

function routePaths(): OpenApiDocument['paths'] {
  const paths: OpenApiDocument['paths'] = {};
  for (const doc of OPERATIONS) {
    paths[doc.path] = { ...paths[doc.path], [doc.method]: toOperation(doc) };
  }
  return paths;
}

function schemas(): Record<string, JsonSchema> {
  const answers = Object.entries(ANSWERS).map(([name, schema]) => [name, toJsonSchema(schema)]);
  return {
    ...usageSchemas,
    ...holdSchemas,
    ...accountSchemas,
    ...budgetSchemas,
    ...alertSchemas,
    ...Object.fromEntries(answers),
    ...errorSchemas(),
  };
}

function errorSchemas(): Record<string, JsonSchema> {
  const codes = Object.keys(HTTP_STATUS) as ErrorCode[];
  const text = { type: 'string' };
  const object = (properties: JsonSchema, required = Object.keys(properties)): JsonSchema => ({
    type: 'object',
    properties,
    required,
  });
  const details = {
    type: 'object',
    description: 'What the code has to say: the field, a limit, `retryable`.',
    additionalProperties: true,
  };
  return {
    ErrorBody: object({ code: { type: 'string', enum: codes }, message: text, details }, [
      'code',
      'message',
    ]),
    Error: object({ error: refTo('ErrorBody') }),
    TrpcAnswer: object({ result: object({ data: {} }) }),
    TrpcError: object({
      error: object({
        message: text,
        code: { type: 'integer' },
        data: { type: 'object', additionalProperties: true },
      }),
    }),
    ProviderRequest: {
      type: 'object',
      properties: { model: text },
      description: 'As the provider documents it.',
    },
    OpenAIError: object({
      error: object({
        message: text,
        type: text,
        param: { type: ['string', 'null'] },
        code: { type: ['string', 'null'] },
      }),
    }),
    AnthropicError: object({
      type: { const: 'error' },
      error: object({ type: text, message: text }),
    }),
  };
}
