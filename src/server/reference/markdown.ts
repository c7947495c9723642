import type { OpenApiDocument } from '../openapi/types.js';
import type { Block } from './blocks.js';
import { referenceBlocks } from './content.js';

/** docs/api.md. */
export function toMarkdown(document: OpenApiDocument): string {
  const blocks = referenceBlocks(document).map(toText);
  return [
    '# API reference',
    '<!-- Written by `npm run openapi`; edit src/server/openapi. -->',
    'The same as [openapi.json](openapi.json), and as a running service has it at `/docs` ' +
      'and `/api/openapi.json`.',
    ...blocks,
    '',
  ].join('\n\n');
}

function toText(block: Block): string {
  switch (block.kind) {
    case 'heading':
      return `${'#'.repeat(block.level)} ${block.text}`;
    case 'text':
      return block.text;
    case 'code':
      return `\`\`\`${block.language}\n${block.text}\n\`\`\``;
    case 'table':
      return [block.head, block.head.map(() => '---'), ...block.rows].map(toRow).join('\n');
  }
}

function toRow(cells: readonly string[]): string {
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
}
