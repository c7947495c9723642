import type { JsonSchema } from '../../record/eventSchema.js';

const MANY_VALUES = 12;

/** The fields of an object schema as rows: name, type, what it is. */
export function fieldRows(schema: JsonSchema): string[][] {
  const properties = (schema.properties ?? {}) as Record<string, JsonSchema>;
  const required = new Set((schema.required as string[] | undefined) ?? []);
  return Object.entries(properties).map(([name, each]) => [
    `\`${name}\`${required.has(name) ? ' (required)' : ''}`,
    typeText(each),
    typeof each.description === 'string' ? each.description : '',
  ]);
}

/** A type in a few words: `integer, 0 to 9`, `one of hard, soft`, `UsageEvent`. */
export function typeText(schema: JsonSchema): string {
  if (typeof schema.$ref === 'string') return nameOf(schema.$ref);
  if (schema.const !== undefined) return `\`${String(schema.const)}\``;
  const values = schema.enum as unknown[] | undefined;
  if (values !== undefined && values.length <= MANY_VALUES) {
    return values.map((value) => `\`${String(value)}\``).join(', ');
  }
  const alternatives = schema.anyOf as JsonSchema[] | undefined;
  if (alternatives !== undefined) return alternatives.map(typeText).join(' or ');
  const types = [schema.type ?? 'any'].flat().map(String);
  if (types.includes('array') && schema.items !== undefined) {
    return [`list of ${typeText(schema.items as JsonSchema)}`, ...bounds(schema)].join(', ');
  }
  const format = typeof schema.format === 'string' ? ` (${schema.format})` : '';
  return [types.join(' or ') + format, ...bounds(schema)].join(', ');
}

export function nameOf(ref: string): string {
  return ref.split('/').at(-1) ?? ref;
}

/** Those that are chosen: not the ends of the safe integers. */
function bounds(schema: JsonSchema): string[] {
  const isChosen = (value: unknown): value is number =>
    typeof value === 'number' && Math.abs(value) < Number.MAX_SAFE_INTEGER;
  const between = (min: unknown, max: unknown, unit: string): string[] => {
    if (isChosen(min) && isChosen(max)) return [`${min} to ${max}${unit}`];
    if (isChosen(min)) return [`at least ${min}${unit}`];
    return isChosen(max) ? [`at most ${max}${unit}`] : [];
  };
  return [
    ...between(schema.minimum, schema.maximum, ''),
    ...between(schema.minLength, schema.maxLength, ' characters'),
    ...between(schema.minItems, schema.maxItems, ' items'),
  ];
}
