import type { Author } from '../author.js';

// biome-ignore lint/suspicious/noExplicitAny: JSON of the wire.
export type Json = Record<string, any>;

/** A block of a message's content: as it is at its end, as it begins, and its deltas. */
export interface Block {
  done: Json;
  start: Json;
  deltas: Json[];
}

export function text(author: Author, tokens: number): Block {
  const pieces = author.tokens(tokens);
  return {
    done: { type: 'text', text: pieces.join('') },
    start: { type: 'text', text: '' },
    deltas: pieces.map((piece) => ({ type: 'text_delta', text: piece })),
  };
}

export function thinking(author: Author, tokens: number): Block {
  const pieces = author.tokens(tokens);
  const signature = author.id('', 300);
  return {
    done: { type: 'thinking', thinking: pieces.join(''), signature },
    start: { type: 'thinking', thinking: '', signature: '' },
    deltas: [
      ...pieces.map((piece) => ({ type: 'thinking_delta', thinking: piece })),
      { type: 'signature_delta', signature },
    ],
  };
}

/** A call of the client's tool. */
export function toolUse(author: Author, input: Json = { value: author.text(8) }): Block {
  const caller = { type: 'direct' };
  return call(author, { type: 'tool_use', id: author.id('toolu_'), name: 'test', caller }, input);
}

/** A call of a tool that the provider runs, and what it gave. */
export function serverTool(
  author: Author,
  tool: { name: string; input: Json; result: string; content: Json | Json[]; caller?: Json },
): Block[] {
  const id = author.id('srvtoolu_');
  const caller = tool.caller === undefined ? {} : { caller: tool.caller };
  const use = call(author, { type: 'server_tool_use', id, name: tool.name, ...caller }, tool.input);
  return [use, whole({ type: tool.result, tool_use_id: id, content: tool.content, ...caller })];
}

export function mcpTool(author: Author): Block[] {
  const id = author.id('mcptoolu_');
  const frame = { type: 'mcp_tool_use', id, name: 'find_invoice', server_name: 'accounting' };
  return [
    call(author, frame, { query: author.text(5) }),
    whole({
      type: 'mcp_tool_result',
      tool_use_id: id,
      is_error: false,
      content: [{ type: 'text', text: author.text(12) }],
    }),
  ];
}

/** A block that comes at once. */
export function whole(done: Json): Block {
  return { done, start: done, deltas: [] };
}

/** The input's JSON in pieces, of which the first is empty. */
function call(author: Author, frame: Json, input: Json): Block {
  const isEmpty = Object.keys(input).length === 0;
  const pieces = isEmpty ? [''] : ['', ...author.pieces(JSON.stringify(input))];
  return {
    done: { ...frame, input },
    start: { ...frame, input: {} },
    deltas: pieces.map((partial_json) => ({ type: 'input_json_delta', partial_json })),
  };
}
