import type { Author } from '../author.js';
import { atOnce, customToolCall, functionCall, message, reasoning, refusal } from './items.js';
import type { Content } from './response.js';
import {
  applyPatch,
  fileSearch,
  localShellCall,
  mcpApprovalRequest,
  mcpCall,
  mcpListTools,
  program,
  shellCall,
  toolSearch,
  webSearch,
} from './toolItems.js';

export type Kind = (author: Author) => Content;

export const RESPONSE_KINDS: Record<string, Kind> = {
  text: (author) => ({ items: [message(author, 40)] }),
  phases: (author) => ({
    items: [
      message(author, 6, { phase: 'commentary' }),
      message(author, 20, { phase: 'final_answer' }),
    ],
  }),
  refusal: (author) => ({ items: [refusal(author)] }),
  'cut-short': (author) => ({ items: [message(author, 16)], incomplete: 'max_output_tokens' }),
  reasoning: (author) => ({
    items: [reasoning(author, 30), message(author, 12)],
    counts: { reasoningTokens: author.count(300, 900), cacheHitTokens: author.count(1_024, 4_096) },
  }),
  'function-calls': (author) => ({
    items: [reasoning(author), functionCall(author), functionCall(author), customToolCall(author)],
    tools: [{ type: 'function', name: 'test', parameters: {}, strict: true }],
  }),
  'web-search': (author) => ({
    items: [
      ...(['search', 'open_page', 'search', 'find_in_page', 'find_in_page'] as const).flatMap(
        (action) => [reasoning(author), webSearch(author, action)],
      ),
      message(author, 120, { annotations: [0, 1, 2].map(() => urlCitation(author)) }),
    ],
    counts: { reasoningTokens: author.count(300, 900), cacheHitTokens: author.count(1_024, 4_096) },
    tools: [{ type: 'web_search', search_context_size: 'medium' }],
  }),
  'file-search': (author) => ({
    items: [
      reasoning(author),
      fileSearch(author),
      message(author, 40, { annotations: [fileCitation(author), fileCitation(author)] }),
    ],
    tools: [{ type: 'file_search', vector_store_ids: [author.id('vs_')], max_num_results: 20 }],
  }),
  mcp: (author) => ({
    items: [
      mcpListTools(author),
      ...[0, 1].flatMap(() => [reasoning(author), mcpCall(author)]),
      message(author, 350),
    ],
    tools: [mcpServer('never')],
  }),
  'mcp-approval': (author) => ({
    items: [mcpListTools(author), reasoning(author), mcpApprovalRequest(author)],
    tools: [mcpServer('always')],
  }),
  'mcp-approved': (author) => ({
    items: [
      mcpListTools(author),
      mcpCall(author, { approval_request_id: author.id('mcpr_') }),
      message(author, 20),
    ],
    tools: [mcpServer('always')],
  }),
  'local-shell': (author) => ({
    items: [reasoning(author), localShellCall(author)],
    tools: [{ type: 'local_shell' }],
  }),
  shell: (author) => ({ items: [shellCall(author)], tools: [{ type: 'shell' }] }),
  'apply-patch': (author) => ({
    items: [applyPatch(author, 'create_file'), applyPatch(author, 'delete_file')],
    tools: [{ type: 'apply_patch' }],
  }),
  'tool-search': (author) => ({
    items: [...toolSearch(author), functionCall(author, { namespace: 'test' })],
    tools: [{ type: 'tool_search', description: null, parameters: null }],
  }),
  compaction: (author) => ({
    items: [
      message(author, 20),
      atOnce({
        id: author.id('cmp_'),
        type: 'compaction',
        encrypted_content: author.id('gAAAAA', 4_000),
      }),
    ],
  }),
  program: (author) => ({
    items: program(author),
    counts: { cacheWriteTokens: author.count(1_024, 2_048), cacheHitTokens: author.count(1, 512) },
    tools: [{ type: 'programmatic_tool_calling' }],
    isNewer: true,
  }),
  unpriced: (author) => ({ items: [message(author, 5)], model: 'model-of-our-own-1' }),
};

function mcpServer(approval: 'always' | 'never'): object {
  return {
    type: 'mcp',
    allowed_tools: null,
    require_approval: approval,
    server_label: 'accounting',
    server_url: 'https://mcp.example.org/',
  };
}

function urlCitation(author: Author) {
  const start_index = author.count(0, 50);
  const title = author.text(3);
  const url = 'https://example.org/';
  return { type: 'url_citation', start_index, end_index: start_index + 9, title, url };
}

function fileCitation(author: Author) {
  const index = author.count(0, 50);
  return { type: 'file_citation', file_id: author.id('file-'), filename: 'ledger.md', index };
}
