import type { z } from 'zod';
import type { JsonSchema } from '../../record/eventSchema.js';
import type { ProcedureMeta } from '../trpc/procedure.js';
import { appRouter } from '../trpc/router.js';
import type { InputParser } from '../validation.js';
import { refTo, toJsonSchema } from './jsonSchema.js';
import { securityOf, toErrorResponses, toHeaders } from './toOperation.js';
import type { MediaType, Method, OpenApiDocument, Operation } from './types.js';

interface Procedure {
  _def: {
    type: 'query' | 'mutation' | 'subscription';
    meta?: ProcedureMeta;
    inputs: readonly InputParser<z.ZodType>[];
  };
}

/** Inputs that a test sends; what is absent takes nothing, or what its schema says. */
const EXAMPLES: Readonly<Record<string, unknown>> = {
  'usage.daily': { from: '2026-11-01', until: '2026-11-30', organizationId: null },
  'usage.byModel': { date: '2026-11-22' },
  'usage.recent': { limit: 10 },
  'usage.report': { from: '2026-11-01', until: '2026-11-30', by: ['model'] },
  'usage.requests': { limit: 10 },
};

const date = { type: 'string', format: 'date' };
const ofObject = (properties: JsonSchema): JsonSchema => ({
  type: 'object',
  properties,
  required: Object.keys(properties),
});

/** What the procedures of the contract answer; of the others the router's types tell. */
const DATA: Readonly<Record<string, JsonSchema>> = {
  'kiloPass.getAverageMonthlyUsageLast3Months': ofObject({
    averageMonthlyUsageUsd: { type: 'number' },
  }),
  'usage.daily': {
    type: 'array',
    items: ofObject({ usage_date: date, total_cost_microdollars: refTo('ExactInteger') }),
  },
  'usage.report': refTo('UsageReport'),
};

/** Every procedure of the router, as a path below `/api/trpc`. */
export function trpcPaths(): OpenApiDocument['paths'] {
  return Object.fromEntries(
    Object.entries(procedures()).map(([name, procedure]) => {
      const isQuery = procedure._def.type === 'query';
      const method: Method = isQuery ? 'get' : 'post';
      return [`/api/trpc/${name}`, { [method]: toTrpcOperation(name, procedure, isQuery) }];
    }),
  );
}

/** By dotted name. */
function procedures(): Record<string, Procedure> {
  return appRouter._def.procedures as unknown as Record<string, Procedure>;
}

function toTrpcOperation(name: string, { _def }: Procedure, isQuery: boolean): Operation {
  const { meta = {}, inputs } = _def;
  const scope = meta.scope ?? 'any';
  const [parser] = inputs;
  const example = EXAMPLES[name];
  const media: MediaType | null =
    parser === undefined
      ? null
      : {
          schema: toJsonSchema(parser.schema),
          ...(example === undefined ? {} : { example }),
        };
  const content = media === null ? null : { 'application/json': media };
  const required = parser?.isOptional === false;
  return {
    operationId: name.replace('.', '_'),
    tags: ['trpc'],
    summary: name,
    description: meta.about ?? '',
    security: securityOf(scope),
    ...(content !== null && isQuery
      ? {
          parameters: [
            { name: 'input', in: 'query', required, description: 'JSON, URL-encoded.', content },
          ],
        }
      : {}),
    ...(content !== null && !isQuery ? { requestBody: { required, content } } : {}),
    responses: {
      200: {
        description: '`{ "result": { "data": ... } }`',
        headers: toHeaders(['x-microdollar-source']),
        content: { 'application/json': { schema: answerOf(name) } },
      },
      default: {
        description:
          '`{ "error": { "message", "data": { "ledgerCode", "httpStatus", "details" } } }`, ' +
          'with the codes of the other routes',
        content: { 'application/json': { schema: refTo('TrpcError') } },
      },
      ...pick503(),
    },
    'x-scope': scope,
  };
}

function answerOf(name: string): JsonSchema {
  const data = DATA[name];
  return data === undefined ? refTo('TrpcAnswer') : ofObject({ result: ofObject({ data }) });
}

/** Its `retry-after`; the body is tRPC's. */
function pick503(): Operation['responses'] {
  const { 503: unavailable } = toErrorResponses(['unavailable']);
  if (unavailable === undefined) return {};
  const schema = refTo('TrpcError');
  return { 503: { ...unavailable, content: { 'application/json': { schema } } } };
}
