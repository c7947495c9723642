import type { JsonSchema } from '../../record/eventSchema.js';
import { type OpenApiDocument, type Operation, TAGS } from '../openapi/types.js';
import { type Block, heading, table, text } from './blocks.js';
import { endpointBlocks, listOperations, scopeText, shownMedia } from './endpoints.js';
import { fieldRows, typeText } from './schemaText.js';

/** Groups whose routes are told one by one; the others are tables. */
const DETAILED = Object.keys(TAGS).filter((tag) => tag !== 'trpc' && tag !== 'gateway');

/** The whole reference, in the order in which it is read. */
export function referenceBlocks(document: OpenApiDocument): Block[] {
  return [
    ...text(document.info.description),
    ...overview(document),
    ...keys(document),
    ...events(document),
    ...document.tags
      .filter(({ name }) => DETAILED.includes(name))
      .flatMap(({ name, description }) => [
        heading(2, titleOf(name)),
        ...text(description),
        ...listOperations(document, name).flatMap((each) => endpointBlocks(document, each)),
      ]),
    ...otherSchemas(document),
    ...procedures(document),
    ...gateway(document),
    ...errors(document),
    ...headers(document),
  ];
}

function overview(document: OpenApiDocument): Block[] {
  const rows = DETAILED.flatMap((tag) => listOperations(document, tag)).map(
    ({ method, path, operation }) => [
      `\`${method.toUpperCase()} ${path}\``,
      operation.summary,
      scopeText(operation),
    ],
  );
  return [heading(2, 'Routes'), ...table(['route', 'what it does', 'key'], rows)];
}

function keys({ 'x-microdollar': facts }: OpenApiDocument): Block[] {
  return [
    heading(2, 'Keys and scopes'),
    ...text(
      'A key has a user, for whom alone it acts, or none (a service key), and scopes. The ' +
        "operator's admin key is a service key with every scope. Keys are stored hashed, and " +
        'shown once.',
    ),
    ...table(
      ['scope', 'what it allows'],
      Object.entries(facts.scopes).map(([scope, meaning]) => [`\`${scope}\``, meaning]),
    ),
  ];
}

function events({ components }: OpenApiDocument): Block[] {
  const event = components.schemas.UsageEvent ?? {};
  const { metadata } = event.properties as Record<string, JsonSchema>;
  return [
    heading(2, 'Events'),
    ...text(
      'One vocabulary in the library, over HTTP and in files. Null and absent are the same; ' +
        'an unknown field is an `invalid_event`. NUL bytes in text are removed.',
    ),
    ...table(['field', 'type', 'meaning'], fieldRows(event)),
    ...text('`metadata` has:'),
    ...table(['field', 'type', 'meaning'], fieldRows(metadata ?? {})),
  ];
}

/** What bodies and answers hold, where it has a name of its own. */
function otherSchemas(document: OpenApiDocument): Block[] {
  // The event is told above.
  const shown = new Set(['UsageEvent', 'CloudEventData']);
  for (const { operation } of DETAILED.flatMap((tag) => listOperations(document, tag))) {
    for (const { name } of shownMedia(operation)) if (name !== null) shown.add(name);
  }
  const referred = JSON.stringify(document.components.schemas);
  const others = Object.entries(document.components.schemas).filter(
    ([name, { properties }]) =>
      properties !== undefined && !shown.has(name) && referred.includes(`/${name}"`),
  );
  return [
    heading(2, 'Schemas'),
    ...others.flatMap(([name, schema]) => [
      heading(3, name),
      ...(typeof schema.description === 'string' ? text(schema.description) : []),
      ...table(['field', 'type', 'meaning'], fieldRows(schema)),
    ]),
  ];
}

function procedures(document: OpenApiDocument): Block[] {
  const rows = listOperations(document, 'trpc').map(({ method, operation }) => [
    `\`${operation.summary}\` (${method === 'get' ? 'query' : 'mutation'})`,
    inputText(operation),
    scopeText(operation),
    operation.description ?? '',
  ]);
  return [
    heading(2, 'tRPC'),
    ...text(
      'tRPC v11 without a transformer, so any client can call it: a query is `GET ' +
        '/api/trpc/<procedure>?input=<JSON>`, a mutation `POST /api/trpc/<procedure>` with ' +
        'the input as its body. Answers are `{ "result": { "data": ... } }`; errors have the ' +
        'code in `error.data.ledgerCode`.',
    ),
    ...table(['procedure', 'input', 'key', 'what it does'], rows),
  ];
}

function inputText({ parameters = [], requestBody }: Operation): string {
  const content = parameters[0]?.content ?? requestBody?.content;
  const schema = content?.['application/json']?.schema;
  if (schema === undefined) return 'none';
  const inner = ((schema.anyOf as JsonSchema[] | undefined)?.[0] ?? schema) as JsonSchema;
  const required = new Set((inner.required as string[] | undefined) ?? []);
  const fields = Object.entries((inner.properties ?? {}) as Record<string, JsonSchema>);
  if (fields.length === 0) return 'none';
  return fields
    .map(([name, each]) => `\`${name}${required.has(name) ? '' : '?'}\`: ${typeText(each)}`)
    .join('; ');
}

function gateway(document: OpenApiDocument): Block[] {
  const { gateway_errors: refusals } = document['x-microdollar'];
  const tag = document.tags.find(({ name }) => name === 'gateway');
  return [
    heading(2, 'Gateway'),
    ...text(
      `${tag?.description ?? ''} A key with the scope \`gateway\`, as the client sends its API key.`,
    ),
    ...table(
      ['endpoint', 'what it is'],
      listOperations(document, 'gateway').map(({ operation }) => [
        `\`${operation.summary}\``,
        operation.description ?? '',
      ]),
    ),
    ...text('Errors of the gateway have the shape of the API that was called:'),
    ...table(
      ['status', 'OpenAI: `error.type`, `error.code`', 'Anthropic: `error.type`', 'meaning'],
      refusals.map(({ status, openai_type, openai_code, anthropic_type, meaning }) => [
        String(status),
        `\`${openai_type}\`, \`${openai_code}\``,
        `\`${anthropic_type}\``,
        meaning,
      ]),
    ),
  ];
}

function errors({ 'x-microdollar': { errors: listed } }: OpenApiDocument): Block[] {
  return [
    heading(2, 'Errors'),
    ...text(
      'Every error is `{ "error": { "code", "message", "details"? } }`. The message names ' +
        'the field and the remedy; codes are stable, messages are not.',
    ),
    ...table(
      ['code', 'status', 'meaning', 'what to do'],
      listed.map(({ code, status, meaning, remedy }) => [
        `\`${code}\``,
        String(status),
        meaning,
        remedy,
      ]),
    ),
  ];
}

function headers({ 'x-microdollar': { headers: listed } }: OpenApiDocument): Block[] {
  const rows = (where: string) =>
    listed
      .filter((each) => each.in === where)
      .map(({ name, description }) => [`\`${name}\``, description]);
  return [
    heading(2, 'Headers'),
    ...table(['of requests', 'meaning'], rows('request')),
    ...table(['of answers', 'meaning'], rows('response')),
  ];
}

function titleOf(tag: string): string {
  return `${tag.charAt(0).toUpperCase()}${tag.slice(1)}`;
}
