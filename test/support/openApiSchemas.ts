import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import type { JsonSchema } from '../../src/record/eventSchema.js';
import type { OpenApiDocument } from '../../src/server/openapi/types.js';

/** What is wrong with a value; null: nothing. */
export type Problems = (value: unknown) => string | null;

export type CompileSchema = (schema: JsonSchema, options?: { isClosed?: boolean }) => Problems;

/**
 * The document's schemas as an independent validator understands them. Closed: a field that an object's
 * schema does not name is a problem, as of answers that say more than is documented.
 */
export function compileSchemas(document: OpenApiDocument): CompileSchema {
  const [open, closed] = [false, true].map((isClosed) => {
    const ajv = new Ajv2020({ strict: false, allErrors: true });
    addFormats.default(ajv);
    const schemas = structuredClone(document.components.schemas);
    ajv.addSchema({
      $id: 'document',
      components: { schemas: isClosed ? close(schemas) : schemas },
    });
    return ajv;
  }) as [Ajv2020, Ajv2020];
  return (schema, { isClosed = false } = {}) => {
    const ajv = isClosed ? closed : open;
    const local = JSON.stringify(schema).replaceAll('"#/components', '"document#/components');
    const validate = ajv.compile(JSON.parse(local));
    return (value) => (validate(value) ? null : ajv.errorsText(validate.errors));
  };
}

function close<T>(schema: T): T {
  if (Array.isArray(schema)) return schema.map(close) as T;
  if (typeof schema !== 'object' || schema === null) return schema;
  const parts = Object.fromEntries(
    Object.entries(schema).map(([keyword, part]) => [keyword, close(part)]),
  );
  const isObject = typeof parts.properties === 'object' && parts.type !== undefined;
  if (isObject && parts.additionalProperties === undefined) parts.additionalProperties = false;
  return parts as T;
}
