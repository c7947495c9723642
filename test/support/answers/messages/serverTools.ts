import type { Author } from '../author.js';
import { type Block, serverTool } from './blocks.js';

// Tools that the provider runs itself: each call and what it gave.

export function webSearch(author: Author): Block[] {
  const result = () => ({
    type: 'web_search_result',
    url: `https://example.org/${author.id('', 8)}`,
    title: author.text(4),
    encrypted_content: author.id('', 400),
    page_age: null,
  });
  return serverTool(author, {
    name: 'web_search',
    input: { query: author.text(4) },
    result: 'web_search_tool_result',
    content: [result(), result()],
  });
}

/** A program of the model's, and what it fetches, between its code and its result. */
export function fetchByProgram(author: Author): Block[] {
  const [code, result] = serverTool(author, {
    name: 'code_execution',
    input: { code: author.text(30) },
    result: 'code_execution_tool_result',
    content: {
      type: 'code_execution_result',
      stdout: author.text(9),
      stderr: '',
      return_code: 0,
      content: [],
      abort_reason: null,
    },
  }) as [Block, Block];
  const fetched = webFetch(author, { type: 'code_execution_20260120', tool_id: code.done.id });
  return [code, ...fetched, result];
}

function webFetch(author: Author, caller: object): Block[] {
  const url = 'https://example.org/ledger';
  const source = { type: 'text', media_type: 'text/plain', data: author.text(90) };
  return serverTool(author, {
    name: 'web_fetch',
    input: { url },
    result: 'web_fetch_tool_result',
    content: {
      type: 'web_fetch_result',
      url,
      retrieved_at: '2026-11-25T11:00:00Z',
      content: { type: 'document', source, title: author.text(3) },
    },
    caller,
  });
}

export function createFile(author: Author): Block[] {
  return serverTool(author, {
    name: 'text_editor_code_execution',
    input: { command: 'create', path: 'sum.py', file_text: author.text(60) },
    result: 'text_editor_code_execution_tool_result',
    content: { type: 'text_editor_code_execution_create_result', is_file_update: false },
  });
}

export function viewFile(author: Author): Block[] {
  return serverTool(author, {
    name: 'text_editor_code_execution',
    input: { command: 'view', path: 'sum.py' },
    result: 'text_editor_code_execution_tool_result',
    content: {
      type: 'text_editor_code_execution_view_result',
      content: author.text(60),
      file_type: 'text',
      num_lines: 9,
      start_line: 1,
      total_lines: 9,
    },
  });
}

export function runShell(author: Author): Block[] {
  return serverTool(author, {
    name: 'bash_code_execution',
    input: { command: 'python sum.py' },
    result: 'bash_code_execution_tool_result',
    content: {
      type: 'bash_code_execution_result',
      stdout: author.text(12),
      stderr: '',
      return_code: 0,
      content: [{ type: 'bash_code_execution_output', file_id: author.id('file_') }],
    },
  });
}

export function toolSearch(author: Author): Block[] {
  return serverTool(author, {
    name: 'tool_search_tool_bm25',
    input: { query: author.text(3) },
    result: 'tool_search_tool_result',
    content: {
      type: 'tool_search_tool_search_result',
      tool_references: [{ type: 'tool_reference', tool_name: 'test' }],
    },
    caller: { type: 'direct' },
  });
}

export function advice(author: Author): Block[] {
  return serverTool(author, {
    name: 'advisor',
    input: {},
    result: 'advisor_tool_result',
    content: { type: 'advisor_result', text: author.text(80) },
  });
}
