import type { WireFormat } from './types.js';

/** A format as rows name it, in `api_kind`. */
export const API_KINDS = {
  'openai-chat': 'openai_chat',
  'openai-responses': 'openai_responses',
  'anthropic-messages': 'anthropic_messages',
} as const satisfies Record<WireFormat, string>;

const FORMATS = new Map<string, WireFormat>(
  Object.entries(API_KINDS).map(([format, kind]) => [kind, format as WireFormat]),
);

/** The format of an `api_kind`; null for what is none. */
export function toWireFormat(apiKind: string | null): WireFormat | null {
  return FORMATS.get(apiKind ?? '') ?? null;
}
