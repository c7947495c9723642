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
  const { parameters = [], responses } = operation;
  return [
    heading(3, `${method.toUpperCase()} ${path}`),
    ...text(`${operation.summary}. ${scopeText(operation)}`),
    ...(operation.description === undefined ? [] : text(operation.description)),
    ...table(
      ['parameter', 'type', 'meaning'],
      parameters.map(({ name, in: where, required, schema = {}, description = '' }) => [
        `\`${name}\` (${where}${required ? ', required' : ''})`,
        typeText(schema),
        description,
      ]),
    ),
    ...shownMedia(operation).flatMap((each) => mediaBlocks(document, each)),
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

interface ShownMedia {
  title: string;
  media: MediaType;
  /** Of the schema; null: it has none. */
  name: string | null;
}

/** Bodies, and answers that have an example. */
export function shownMedia({ requestBody, responses }: Operation): ShownMedia[] {
  const bodies = Object.entries(requestBody?.content ?? {}).map(([type, media]) => ({
    title: `**Body** \`${type}\``,
    media,
  }));
  const answers = Object.entries(responses).flatMap(([status, { description, content = {} }]) =>
    Object.values(content)
      .filter(({ example }) => example !== undefined)
      .map((media) => ({ title: `**Answer ${status}** ${description}`, media })),
  );
  return [...bodies, ...answers].map((each) => {
    const { $ref } = each.media.schema;
    return { ...each, name: typeof $ref === 'string' ? nameOf($ref) : null };
  });
}

function mediaBlocks(document: OpenApiDocument, { title, media, name }: ShownMedia): Block[] {
  const { schema, example } = media;
  const resolved: JsonSchema = name === null ? schema : (document.components.schemas[name] ?? {});
  return [
    ...text(name === null ? title : `${title} (${name})`),
    ...table(['field', 'type', 'meaning'], fieldRows(resolved)),
    ...(example === undefined ? [] : [code('json', JSON.stringify(example, null, 2))]),
  ];
}
