import type { Author } from '../author.js';

// biome-ignore lint/suspicious/noExplicitAny: JSON of the wire.
export type Json = Record<string, any>;

/** An item of a response's output: as it is at its end, as it begins, and what comes between. */
export interface Item {
  done: Json;
  added: Json;
  /** Without `sequence_number`, `item_id` and `output_index`, which the stream knows. */
  events: Json[];
}

export function message(author: Author, tokens: number, more: MessageOptions = {}): Item {
  const { annotations = [], ...phase } = more;
  const pieces = author.tokens(tokens);
  const part = { type: 'output_text', annotations, logprobs: [], text: pieces.join('') };
  const id = author.id('msg_');
  const frame = { id, type: 'message', role: 'assistant', ...phase };
  return {
    done: { ...frame, status: 'completed', content: [part] },
    added: { ...frame, status: 'in_progress', content: [] },
    events: [
      event('content_part.added', {
        content_index: 0,
        part: { ...part, annotations: [], text: '' },
      }),
      ...pieces.map((delta) =>
        event('output_text.delta', {
          content_index: 0,
          delta,
          logprobs: [],
          obfuscation: author.id('', author.count(1, 12)),
        }),
      ),
      ...annotations.map((annotation, annotation_index) =>
        event('output_text.annotation.added', { content_index: 0, annotation_index, annotation }),
      ),
      event('output_text.done', { content_index: 0, text: part.text, logprobs: [] }),
      event('content_part.done', { content_index: 0, part }),
    ],
  };
}

interface MessageOptions {
  annotations?: Json[];
  phase?: 'commentary' | 'final_answer';
}

export function refusal(author: Author): Item {
  const pieces = author.tokens(9);
  const part = { type: 'refusal', refusal: pieces.join('') };
  const frame = { id: author.id('msg_'), type: 'message', role: 'assistant' };
  return {
    done: { ...frame, status: 'completed', content: [part] },
    added: { ...frame, status: 'in_progress', content: [] },
    events: [
      event('content_part.added', { content_index: 0, part: { ...part, refusal: '' } }),
      ...pieces.map((delta) => event('refusal.delta', { content_index: 0, delta })),
      event('refusal.done', { content_index: 0, refusal: part.refusal }),
      event('content_part.done', { content_index: 0, part }),
    ],
  };
}

/** Empty, as models give it by default, or with a summary and the encrypted whole. */
export function reasoning(author: Author, summaryTokens = 0): Item {
  const frame = { id: author.id('rs_'), type: 'reasoning', content: [] };
  if (summaryTokens === 0) return atOnce({ ...frame, summary: [] });
  const pieces = author.tokens(summaryTokens);
  const part = { type: 'summary_text', text: pieces.join('') };
  const encrypted = () => ({ encrypted_content: author.id('gAAAAA', author.count(400, 900)) });
  return {
    done: { ...frame, ...encrypted(), summary: [part] },
    added: { ...frame, ...encrypted(), summary: [] },
    events: [
      event('reasoning_summary_part.added', { summary_index: 0, part: { ...part, text: '' } }),
      ...pieces.map((delta) =>
        event('reasoning_summary_text.delta', { summary_index: 0, delta, obfuscation: 'xyz' }),
      ),
      event('reasoning_summary_text.done', { summary_index: 0, text: part.text }),
      event('reasoning_summary_part.done', { summary_index: 0, part }),
    ],
  };
}

/** A call whose arguments come in pieces. */
export function functionCall(author: Author, more: Json = {}): Item {
  const all = JSON.stringify({ value: author.text(8) });
  return inPieces(author, 'function_call_arguments', 'arguments', all, {
    id: author.id('fc_'),
    type: 'function_call',
    status: 'completed',
    call_id: author.id('call_'),
    name: 'test',
    ...more,
  });
}

export function customToolCall(author: Author): Item {
  return inPieces(author, 'custom_tool_call_input', 'input', author.text(12), {
    id: author.id('ctc_'),
    type: 'custom_tool_call',
    status: 'completed',
    call_id: author.id('call_'),
    name: 'write_sql',
  });
}

/** An item that is added as it will be when it is done, but for its status. */
export function atOnce(done: Json): Item {
  return { done, added: 'status' in done ? { ...done, status: 'in_progress' } : done, events: [] };
}

/** An item of which one member comes in pieces. */
export function inPieces(
  author: Author,
  name: string,
  member: string,
  all: string,
  frame: Json,
): Item {
  return {
    done: { ...frame, [member]: all },
    added: { ...frame, status: 'in_progress', [member]: '' },
    events: [
      ...author.pieces(all).map((delta) => event(`${name}.delta`, { delta, obfuscation: 'xyz' })),
      event(`${name}.done`, { [member]: all }),
    ],
  };
}

export function event(name: string, members: Json = {}): Json {
  return { type: `response.${name}`, ...members };
}
