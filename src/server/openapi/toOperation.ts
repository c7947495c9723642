import type { Scope } from '../../accounts/scopes.js';
import { type ErrorCode, HTTP_STATUS } from '../../errors.js';
import { describeError } from './errorHelp.js';
import { REQUEST_HEADERS, RESPONSE_HEADERS } from './headers.js';
import { fieldsOf, refTo } from './jsonSchema.js';
import type {
  AnswerDoc,
  BodyDoc,
  MediaType,
  Operation,
  OperationDoc,
  Parameter,
  Response,
} from './types.js';

const JSON_TYPE = 'application/json';
/** Of every route with a key. */
const COMMON: readonly ErrorCode[] = ['invalid_request', 'unauthorized', 'forbidden'];
/** Of every route that asks the database. */
const SERVER: readonly ErrorCode[] = ['unavailable', 'internal'];

export function toOperation(doc: OperationDoc): Operation {
  const { id, tag, summary, description, scope, bodies = [] } = doc;
  const required = doc.isBodyOptional !== true;
  const parameters = toParameters(doc);
  const errors = scope === null ? [] : [...COMMON, ...(doc.errors ?? []), ...SERVER];
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description: unwrap(description) }),
    security: securityOf(scope),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(bodies.length === 0 ? {} : { requestBody: { required, content: toContent(bodies) } }),
    responses: { ...toErrorResponses(errors), ...toResponses(doc.answers) },
    'x-scope': scope,
  };
}

export function securityOf(scope: Scope | 'any' | null): readonly object[] {
  return scope === null ? [] : [{ key: [] }];
}

/** One response a status, which names the codes that it may have. */
export function toErrorResponses(codes: readonly ErrorCode[]): Record<string, Response> {
  const responses: Record<string, Response> = {};
  for (const status of [...new Set(codes.map((code) => HTTP_STATUS[code]))].sort()) {
    const described = codes.filter((code) => HTTP_STATUS[code] === status).map(describeError);
    responses[status] = {
      description: described.join('\n\n'),
      ...(status === 503 || status === 429 ? { headers: toHeaders(['retry-after']) } : {}),
      ...(status === 401 ? { headers: toHeaders(['www-authenticate']) } : {}),
      content: { [JSON_TYPE]: { schema: refTo('Error') } },
    };
  }
  return responses;
}

export function toHeaders(names: readonly string[]): NonNullable<Response['headers']> {
  return Object.fromEntries(
    names.map((name) => [
      name,
      { description: RESPONSE_HEADERS[name] ?? '', schema: { type: 'string' } },
    ]),
  );
}

export function toHeaderParameters(names: readonly string[]): Parameter[] {
  return names.map((name) => ({
    name,
    in: 'header',
    required: false,
    description: REQUEST_HEADERS[name] ?? '',
    schema: { type: 'string' },
  }));
}

function toParameters({ params, search, headers = [] }: OperationDoc): Parameter[] {
  const places = [
    ['path', params],
    ['query', search],
  ] as const;
  const fields = places.flatMap(([where, schema]) =>
    schema === undefined ? [] : fieldsOf(schema).map((field) => ({ ...field, where })),
  );
  return [
    ...fields.map(({ name, required, schema: { description, ...schema }, where }) => ({
      name,
      in: where,
      required,
      ...(typeof description === 'string' ? { description } : {}),
      // What is absent from a URL is not there; null it is never.
      schema: where === 'query' ? withoutNull(schema) : schema,
    })),
    ...toHeaderParameters(headers),
  ];
}

function withoutNull(schema: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { anyOf, ...rest } = schema;
  const alternatives = Array.isArray(anyOf) ? anyOf.filter(({ type }) => type !== 'null') : [];
  const plain = alternatives.length === 1 ? { ...rest, ...alternatives[0] } : { ...schema };
  if (Array.isArray(plain.type)) {
    const types = plain.type.filter((type: unknown) => type !== 'null');
    plain.type = types.length === 1 ? types[0] : types;
  }
  if (Array.isArray(plain.enum)) plain.enum = plain.enum.filter((each: unknown) => each !== null);
  return plain;
}

function toResponses(answers: OperationDoc['answers']): Record<string, Response> {
  return Object.fromEntries(
    Object.entries(answers).map(([status, answer]) => [status, toResponse(answer)]),
  );
}

function toResponse({ description, body, others = [], headers }: AnswerDoc): Response {
  const content = {
    ...(body === undefined ? {} : toContent([body])),
    ...Object.fromEntries(
      others.map((type) => [type, { schema: { type: type === JSON_TYPE ? 'object' : 'string' } }]),
    ),
  };
  return {
    description,
    ...(headers === undefined ? {} : { headers: toHeaders(headers) }),
    content,
  };
}

function toContent(bodies: readonly BodyDoc[]): Record<string, MediaType> {
  return Object.fromEntries(
    bodies.map(({ schema, example, mediaType = JSON_TYPE }) => [
      mediaType,
      { schema: refTo(schema), example },
    ]),
  );
}

/** Paragraphs of a template literal on one line each. */
function unwrap(text: string): string {
  return text
    .split('\n\n')
    .map((paragraph) => paragraph.replaceAll('\n', ' '))
    .join('\n\n');
}
