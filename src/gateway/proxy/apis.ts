import type { WireFormat } from '../processUsage/index.js';

/** Whose API a path belongs to: it says how errors are worded and which upstreams may serve it. */
export const PROVIDERS = ['openai', 'anthropic'] as const;
export type Provider = (typeof PROVIDERS)[number];

/** What a metered request is recorded as. */
export interface Api {
  /** Stored as `api_kind`. */
  kind: string;
  format: WireFormat;
  path: string;
  /** Stored as the row's provider: the name of the upstream that serves it. */
  provider: string;
}
