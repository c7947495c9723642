import { asObject, asText, byteLength, type JsonObject, objectsIn } from '../processUsage/json.js';

/** What a prompt has beside text. */
export interface ContentBounds {
  images: number;
  /** Of the texts in which images and recordings are written. */
  encodedBytes: number;
  audioTokens: number;
  /** A part that only the model's context bounds: its type; null = there is none. */
  openPart: string | null;
}

const TEXTS: ReadonlySet<string> = new Set([
  'message',
  'text',
  'input_text',
  'output_text',
  'summary_text',
  'reasoning_text',
  'refusal',
  'tool_use',
  'tool_result',
  'function_call',
  'function_call_output',
  'custom_tool_call',
  'custom_tool_call_output',
  'thinking',
  'redacted_thinking',
  'reasoning',
]);
const IMAGES: ReadonlySet<string> = new Set(['image', 'image_url', 'input_image']);
/** Half of what the sparest recordings that are usual need for ten tokens, a second, in base64. */
const ENCODED_BYTES_PER_AUDIO_TOKEN = 50;
const MAX_PARTS = 200_000;

/** Only what the API reads as content: an object within a tool's arguments or schema is text. */
export function boundContent(request: JsonObject): ContentBounds {
  const bounds: ContentBounds = { images: 0, encodedBytes: 0, audioTokens: 0, openPart: null };
  const stack: unknown[] = [request.messages, request.input, request.system];
  for (let seen = 0; stack.length > 0; ) {
    for (const part of objectsIn(stack.pop())) {
      if (++seen > MAX_PARTS) return { ...bounds, openPart: 'of so many' };
      stack.push(part.content, part.output);
      boundPart(bounds, part);
    }
  }
  return bounds;
}

function boundPart(bounds: ContentBounds, part: JsonObject): void {
  const type = asText(part.type);
  // Speech of an earlier answer, by its name.
  if (asObject(part.audio) !== null) bounds.openPart = 'audio';
  if (asObject(part.output) !== null) bounds.openPart = `${type}`.slice(0, 64);
  if (type === null || TEXTS.has(type)) return;
  if (IMAGES.has(type)) {
    bounds.images++;
    bounds.encodedBytes += encodedBytes(part);
  } else if (type === 'input_audio') {
    const bytes = byteLength(asObject(part.input_audio)?.data);
    bounds.encodedBytes += bytes;
    bounds.audioTokens += Math.ceil(bytes / ENCODED_BYTES_PER_AUDIO_TOKEN) + 1;
  } else {
    bounds.openPart = type.slice(0, 64);
  }
}

function encodedBytes(image: JsonObject): number {
  const source = asObject(image.source);
  const url = asText(image.image_url) ?? asText(asObject(image.image_url)?.url);
  return byteLength(source?.data) + (url?.startsWith('data:') ? byteLength(url) : 0);
}
