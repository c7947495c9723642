import type { Author } from '../author.js';
import { mcpTool, text, thinking, toolUse, whole } from './blocks.js';
import type { Content } from './message.js';
import {
  advice,
  createFile,
  fetchByProgram,
  runShell,
  toolSearch,
  viewFile,
  webSearch,
} from './serverTools.js';

export type Kind = (author: Author) => Content;

const REFUSAL = {
  type: 'refusal',
  category: 'other',
  explanation: 'It is not for sale.',
  recommended_model: 'claude-haiku-4-5',
};
const EDITS = [
  { type: 'clear_tool_uses_20250919', cleared_tool_uses: 2, cleared_input_tokens: 90 },
];

export const MESSAGE_KINDS: Record<string, Kind> = {
  text: (author) => ({ blocks: [text(author, 30)] }),
  thinking: (author) => ({
    blocks: [thinking(author, 40), text(author, 12)],
    thinkingTokens: author.count(100, 500),
  }),
  cached: (author) => ({
    blocks: [text(author, 12)],
    cacheRead: author.count(1_024, 9_000),
    cacheWrite5m: author.count(1_024, 2_048),
    cacheWrite1h: author.count(1_024, 2_048),
  }),
  'cached-nulls': (author) => ({
    blocks: [text(author, 12)],
    cacheRead: author.count(1_024, 9_000),
    style: 'nulls',
  }),
  tools: (author) => ({
    blocks: [text(author, 6), toolUse(author), toolUse(author)],
    stopReason: 'tool_use',
  }),
  'tool-no-input': (author) => ({
    blocks: [text(author, 6), toolUse(author, {})],
    stopReason: 'tool_use',
  }),
  'cut-short': (author) => ({ blocks: [text(author, 16)], stopReason: 'max_tokens' }),
  refusal: () => ({ blocks: [], stopReason: 'refusal', more: { stop_details: REFUSAL } }),
  'web-search': (author) => ({
    blocks: [...webSearch(author), ...webSearch(author), text(author, 40)],
    webSearches: 2,
    ...grownPrompt(author),
  }),
  'web-fetch': (author) => ({
    blocks: [...fetchByProgram(author), text(author, 40)],
    webSearches: 0,
    ...grownPrompt(author),
  }),
  'code-execution': (author) => ({
    blocks: [
      text(author, 12),
      ...createFile(author),
      ...viewFile(author),
      ...runShell(author),
      text(author, 320),
    ],
    webSearches: 0,
    more: { container: { id: author.id('container_'), expires_at: '2026-11-25T12:00:00Z' } },
    ...grownPrompt(author),
  }),
  'tool-search': (author) => ({
    blocks: [...toolSearch(author), toolUse(author)],
    stopReason: 'tool_use',
    webSearches: 0,
  }),
  /** The search itself was in the message before. */
  'tool-search-deferred': (author) => ({
    blocks: [...toolSearch(author).slice(1), text(author, 6), toolUse(author)],
    stopReason: 'tool_use',
    webSearches: 0,
  }),
  mcp: (author) => ({ blocks: [...mcpTool(author), text(author, 12)], webSearches: 0 }),
  advisor: (author) => ({
    blocks: [...advice(author), text(author, 30)],
    advisor: {
      model: 'claude-opus-4-6',
      input_tokens: author.count(500, 3_000),
      output_tokens: author.count(50, 900),
    },
  }),
  compaction: (author) => ({
    blocks: [whole({ type: 'compaction', content: author.text(60) }), text(author, 12)],
    compaction: {
      input_tokens: author.count(50_000, 90_000),
      output_tokens: author.count(500, 900),
    },
  }),
  'context-editing': (author) => ({
    blocks: [thinking(author, 12), text(author, 20)],
    more: { context_management: { applied_edits: EDITS } },
  }),
  bare: (author) => ({ blocks: [text(author, 8)], style: 'bare' }),
  unpriced: (author) => ({ blocks: [text(author, 5)], model: 'model-of-our-own-1' }),
};

/** The provider's own tools bring text into the prompt while the message is made. */
function grownPrompt(author: Author): Pick<Content, 'startedWith' | 'inputTokens'> {
  const startedWith = author.count(1_000, 3_000);
  return { startedWith, inputTokens: startedWith + author.count(500, 9_000) };
}
