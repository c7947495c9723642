import type { Author } from '../author.js';
import { atOnce, event, functionCall, type Item, inPieces, type Json, reasoning } from './items.js';

/** Items of the tools that the provider runs itself, or hands to a client of its own kind. */
const JSON_SCHEMA = {
  type: 'object',
  properties: { value: { type: 'string' } },
  required: ['value'],
  additionalProperties: false,
};

export function mcpCall(author: Author, more: Json = {}): Item {
  const all = JSON.stringify({ query: author.text(5) });
  const item = inPieces(author, 'mcp_call_arguments', 'arguments', all, {
    id: author.id('mcp_'),
    type: 'mcp_call',
    status: 'completed',
    approval_request_id: null,
    error: null,
    name: 'find_invoice',
    output: author.text(120),
    server_label: 'accounting',
    ...more,
  });
  return {
    ...item,
    added: { ...item.added, output: null },
    events: [event('mcp_call.in_progress'), ...item.events, event('mcp_call.completed')],
  };
}

export function mcpListTools(author: Author): Item {
  const tools = ['find_invoice', 'list_invoices'].map((name) => ({
    annotations: { read_only: true },
    description: author.text(12),
    input_schema: JSON_SCHEMA,
    name,
  }));
  const frame = { id: author.id('mcpl_'), type: 'mcp_list_tools', server_label: 'accounting' };
  return {
    done: { ...frame, tools },
    added: { ...frame, tools: [] },
    events: [event('mcp_list_tools.in_progress'), event('mcp_list_tools.completed')],
  };
}

export function mcpApprovalRequest(author: Author): Item {
  return atOnce({
    id: author.id('mcpr_'),
    type: 'mcp_approval_request',
    arguments: JSON.stringify({ query: author.text(5) }),
    name: 'find_invoice',
    server_label: 'accounting',
  });
}

/** Of the three actions only a search is charged as one. */
export function webSearch(author: Author, action: 'search' | 'open_page' | 'find_in_page'): Item {
  const url = `https://example.org/${author.id('')}`;
  const details = {
    search: { query: author.text(4), sources: [{ type: 'url', url }] },
    open_page: { url },
    find_in_page: { pattern: author.text(2), url },
  }[action];
  const done = {
    id: author.id('ws_'),
    type: 'web_search_call',
    status: 'completed',
    action: { type: action, ...details },
  };
  const { action: _action, ...added } = done;
  return { done, added: { ...added, status: 'in_progress' }, events: progress('web_search_call') };
}

export function fileSearch(author: Author): Item {
  const frame = { id: author.id('fs_'), type: 'file_search_call', results: null };
  return {
    done: { ...frame, status: 'completed', queries: [author.text(4)] },
    added: { ...frame, status: 'in_progress', queries: [] },
    events: progress('file_search_call'),
  };
}

export function applyPatch(author: Author, operation: 'create_file' | 'delete_file'): Item {
  const path = `notes/${author.id('', 6)}.md`;
  const frame = { id: author.id('apc_'), type: 'apply_patch_call', call_id: author.id('call_') };
  const isCreation = operation === 'create_file';
  const diff = isCreation ? author.text(30) : '';
  const withDiff = (text: string) => ({
    type: operation,
    path,
    ...(isCreation ? { diff: text } : {}),
  });
  const deltas = author
    .pieces(diff)
    .map((delta) => event('apply_patch_call_operation_diff.delta', { delta, obfuscation: 'x' }));
  return {
    done: { ...frame, status: 'completed', operation: withDiff(diff) },
    added: { ...frame, status: 'in_progress', operation: withDiff('') },
    events: isCreation ? [...deltas, event('apply_patch_call_operation_diff.done', { diff })] : [],
  };
}

export function localShellCall(author: Author): Item {
  const frame = { id: author.id('lsh_'), type: 'local_shell_call', call_id: author.id('call_') };
  const action = { type: 'exec', command: ['ls', author.text(2)], env: {} };
  return {
    done: { ...frame, status: 'completed', action },
    added: { ...frame, status: 'in_progress', action: { ...action, command: [] } },
    events: [],
  };
}

export function shellCall(author: Author): Item {
  return atOnce({
    id: author.id('sh_'),
    type: 'shell_call',
    status: 'completed',
    action: { commands: [author.text(4), 'pwd'], max_output_length: 4_096, timeout_ms: null },
    call_id: author.id('call_'),
  });
}

export function toolSearch(author: Author): Item[] {
  const common = { status: 'completed', call_id: null, execution: 'server' };
  const found = { type: 'function', name: 'test', description: author.text(5), parameters: {} };
  return [
    atOnce({
      id: author.id('tsc_'),
      type: 'tool_search_call',
      arguments: { paths: ['test'] },
      ...common,
    }),
    atOnce({ id: author.id('tso_'), type: 'tool_search_output', tools: [found], ...common }),
  ];
}

/** A program that the model wrote, and the call that it makes. */
export function program(author: Author): Item[] {
  const callerId = author.id('call_');
  return [
    reasoning(author, 1),
    atOnce({
      id: author.id('prog_'),
      type: 'program',
      call_id: callerId,
      code: author.text(40),
      fingerprint: author.id('', 64),
    }),
    functionCall(author, { caller: { type: 'program', caller_id: callerId } }),
  ];
}

function progress(name: string): Json[] {
  return ['in_progress', 'searching', 'completed'].map((step) => event(`${name}.${step}`));
}
