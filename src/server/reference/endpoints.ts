import type { JsonSchema } from '../../record/eventSchema.js';
import type { MediaType, Method, OpenApiDocument, Operation } from '../openapi/types.js';
import { type Block, code, heading, table, text } from './blocks.js';
import { fieldRows, nameOf, typeText } from './schemaText.js';

export interface Listed {
  method: Method;
  path: string;
  operation: Operation;
}

export function listOperations({ paths }: OpenApiDocument, tag: string): Listed[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    (Object.entries(methods) as [Method, Operation][])
      .filter(([, operation]) => operation.tags.includes(tag))
      .map(([method, operation]) => ({ method, path, operation })),
  );
}

/** One route: who may, parameters, bodies and answers with examples, errors. */
export function endpointBlocks(document: OpenApiDocument, listed: Listed): Block[] {
  const { method, path, operation } = listed;
  const { parameters = [], requestBody, responses } = operation;
  return [
    heading(3, `${method.toUpperCase()} ${path}`),
    ...text(`${operation.summary}. ${scopeText(operation)}`),
    ...(operation.description === undefined ? [] : text(operation.description)),
    ...table(
      ['parameter', 'type', ''],
      parameters.map(({ name, in: where, required, schema = {}, description = '' }) => [
        `\`${name}\` (${where}${required ? ', required' : ''})`,
        typeText(schema),
        description,
      ]),
    ),
    ...Object.entries(requestBody?.content ?? {}).flatMap(([type, media]) =>
      mediaBlocks(document, `Body, \`${type}\``, media),
    ),
    ...Object.entries(responses).flatMap(([status, { description, content = {} }]) => {
      const examples = Object.entries(content).filter(([, media]) => media.example !== undefined);
      return examples.flatMap(([, media]) =>
        mediaBlocks(document, `Answer ${status}: ${description}`, media),
      );
    }),
    ...errorText(responses),
  ];
}

export function scopeText({ 'x-scope': scope }: Operation): string {
  if (scope === null) return 'No key.';
  return scope === 'any' ? 'Any valid key.' : `Scope \`${scope}\`.`;
}

/** Their codes alone: what each says, and what to do, is told once. */
function errorText(responses: Operation['responses']): Block[] {
  const errors = Object.entries(responses)
    .filter(([status, { content = {} }]) => isError(status, content))
    .map(([status, { description }]) => {
      const codes = [...description.matchAll(/^`\w+`/gm)].map(([code]) => code);
      return `${status} ${codes.join(', ')}`;
    });
  return errors.length === 0 ? [] : text(`Errors: ${errors.join('; ')}.`);
}

function isError(status: string, content: Record<string, MediaType>): boolean {
  return (
    /^[45]/.test(status) && Object.values(content).every(({ example }) => example === undefined)
  );
}

function mediaBlocks(document: OpenApiDocument, title: string, media: MediaType): Block[] {
  const { schema, example } = media;
  const name = typeof schema.$ref === 'string' ? nameOf(schema.$ref) : null;
  const resolved: JsonSchema = name === null ? schema : (document.components.schemas[name] ?? {});
  return [
    ...text(`**${title}**${name === null ? '' : ` (${name})`}`),
    // The event has a section of its own.
    ...(name === 'UsageEvent' ? [] : table(['field', 'type', ''], fieldRows(resolved))),
    ...(example === undefined ? [] : [code('json', JSON.stringify(example, null, 2))]),
  ];
}
