import { z } from 'zod';
import type { JsonSchema } from '../../record/eventSchema.js';

/** A schema as callers see it: what is sent, before any transformation. */
export function toJsonSchema(schema: z.ZodType): JsonSchema {
  const { $schema, ...rest } = z.toJSONSchema(schema, {
    io: 'input',
    unrepresentable: 'any',
    override: ({ jsonSchema }) => {
      if (jsonSchema.$ref !== undefined) keepOnly(jsonSchema, ['$ref', 'description']);
      // True of every JSON object.
      delete jsonSchema.propertyNames;
    },
  });
  return rest as JsonSchema;
}

function keepOnly(schema: object, names: readonly string[]): void {
  for (const name of Object.keys(schema)) {
    if (!names.includes(name)) delete (schema as Record<string, unknown>)[name];
  }
}

/** A schema of `components.schemas`, by name. */
export function refTo(name: string): JsonSchema {
  return { $ref: `#/components/schemas/${name}` };
}

/** The same within a Zod schema. */
export function reference(name: string): z.ZodType {
  return z.unknown().meta(refTo(name));
}

/** The fields of an object schema: optional ones marked, in their order. */
export function fieldsOf(
  schema: z.ZodObject,
): { name: string; required: boolean; schema: JsonSchema }[] {
  const json = toJsonSchema(schema);
  const required = new Set((json.required as string[] | undefined) ?? []);
  const properties = (json.properties ?? {}) as Record<string, JsonSchema>;
  return Object.entries(properties).map(([name, each]) => ({
    name,
    required: required.has(name),
    schema: each,
  }));
}
