import type { WireFormat } from './types.js';

/** A format as rows name it, in `api_kind`. */
export const API_KINDS = {
  'openai-chat': 'openai_chat',
  'openai-responses': 'openai_responses',
  'anthropic-messages': 'anthropic_messages',
} as const satisfies Record<WireFormat, string>;

/**
 * Of an intent whose answer comes at once while the provider goes on: what a crash leaves of it is
 * told apart. Its row has the kind of any other response.
 */
export const BACKGROUND_INTENT = 'openai_background';

/** Endpoints beside them (src/gateway/proxy/endpoints.ts), by the format whose prices they have. */
const MORE_KINDS: Readonly<Record<string, WireFormat>> = {
  [BACKGROUND_INTENT]: 'openai-responses',
  openai_compact: 'openai-responses',
  openai_completions: 'openai-chat',
  openai_embeddings: 'openai-chat',
  openai_images: 'openai-chat',
  openai_image_edits: 'openai-chat',
  openai_transcriptions: 'openai-chat',
  openai_translations: 'openai-chat',
  openai_speech: 'openai-chat',
  rerank: 'openai-chat',
};

/** Vectors and ranks are no tokens. */
export const KINDS_WITHOUT_OUTPUT: ReadonlySet<string> = new Set(['openai_embeddings', 'rerank']);

/** What they make are images. */
export const KINDS_OF_IMAGES: ReadonlySet<string> = new Set([
  'openai_images',
  'openai_image_edits',
]);

const FORMATS = new Map<string, WireFormat>([
  ...Object.entries(API_KINDS).map(([format, kind]) => [kind, format as WireFormat] as const),
  ...Object.entries(MORE_KINDS),
]);

/** The format of an `api_kind`; null for what is none. */
export function toWireFormat(apiKind: string | null): WireFormat | null {
  return FORMATS.get(apiKind ?? '') ?? null;
}
