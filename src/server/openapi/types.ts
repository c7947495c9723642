import type { z } from 'zod';
import type { Scope } from '../../accounts/scopes.js';
import type { ErrorCode } from '../../errors.js';
import type { JsonSchema } from '../../record/eventSchema.js';

/** Groups of operations, in the order in which they are shown. */
export const TAGS = {
  usage: 'Usage events: what was used, by whom, at what cost.',
  holds: 'Money held before it is spent (docs/budgets.md).',
  reports: 'Spend by period and dimension.',
  accounts: 'Users, organizations, keys, credits, adjustments.',
  budgets: 'Limits of a user, organization, member, key or project.',
  alerts: 'What tells a webhook when spend crosses a line (docs/alerts.md).',
  service: 'Probes, metrics, this reference.',
  trpc: 'The same data for pages: tRPC v11 over plain JSON.',
  gateway:
    'Metering proxies in front of providers (docs/gateway.md); also under `/api/v1`. Bodies ' +
    "and answers are the provider's own.",
} as const;
export type Tag = keyof typeof TAGS;

export type Method = 'get' | 'post' | 'patch' | 'delete';

/** An example, and the schema that it is of: a name in `components.schemas`. */
export interface BodyDoc {
  schema: string;
  example: unknown;
  /** Default `application/json`. */
  mediaType?: string;
}

export interface AnswerDoc {
  description: string;
  body?: BodyDoc;
  /** Media types of what has no schema here. */
  others?: readonly string[];
  /** Names in `RESPONSE_HEADERS`. */
  headers?: readonly string[];
}

/** What is said of a route beside its schemas. */
export interface OperationDoc {
  /** Unique, for generated clients. */
  id: string;
  method: Method;
  /** With `{name}` for parameters. */
  path: string;
  tag: Tag;
  summary: string;
  description?: string;
  /** Null: no key. */
  scope: Scope | null;
  /** Of the path and of the search; the schemas that the route itself validates with. */
  params?: z.ZodObject;
  search?: z.ZodObject;
  /** Names in `REQUEST_HEADERS`. */
  headers?: readonly string[];
  bodies?: readonly BodyDoc[];
  /** None at all is taken too. */
  isBodyOptional?: true;
  answers: Readonly<Record<number, AnswerDoc>>;
  /** Beside those that every route with a key may answer. */
  errors?: readonly ErrorCode[];
}

export interface OpenApiDocument {
  openapi: '3.1.0';
  info: { title: string; version: string; description: string; license: object };
  servers: readonly { url: string; description: string }[];
  security: readonly object[];
  tags: readonly { name: string; description: string }[];
  paths: Record<string, Partial<Record<Method, Operation>>>;
  components: {
    schemas: Record<string, JsonSchema>;
    securitySchemes: Record<string, object>;
  };
  /** What OpenAPI has no place for: scopes, error codes, headers. */
  'x-microdollar': Facts;
}

export interface Operation {
  operationId: string;
  tags: readonly string[];
  summary: string;
  description?: string;
  security: readonly object[];
  parameters?: readonly Parameter[];
  requestBody?: { required: boolean; content: Record<string, MediaType> };
  responses: Record<string, Response>;
  /** The scope that a key must have; null: none, `any`: any valid key. */
  'x-scope': Scope | 'any' | null;
}

export interface Parameter {
  name: string;
  in: 'path' | 'query' | 'header';
  required: boolean;
  description?: string;
  schema?: JsonSchema;
  content?: Record<string, MediaType>;
}

export interface MediaType {
  schema: JsonSchema;
  example?: unknown;
  examples?: Record<string, { value: unknown }>;
}

export interface Response {
  description: string;
  headers?: Record<string, { description: string; schema: JsonSchema }>;
  content?: Record<string, MediaType>;
}

export interface Facts {
  scopes: Readonly<Record<string, string>>;
  errors: readonly { code: string; status: number; meaning: string; remedy: string }[];
  gateway_errors: readonly {
    reason: string;
    status: number;
    openai_type: string;
    openai_code: string;
    anthropic_type: string;
    meaning: string;
  }[];
  headers: readonly { name: string; in: 'request' | 'response'; description: string }[];
}
