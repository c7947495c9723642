import { createHash } from 'node:crypto';
import type { OpenApiDocument } from '../openapi/types.js';
import type { Block } from './blocks.js';
import { referenceBlocks } from './content.js';
import { STYLE } from './style.js';

/** A page by itself: no script, no file beside it. */
export function toPage(document: OpenApiDocument): string {
  const blocks = referenceBlocks(document);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>microdollar: API reference</title>
<style>${STYLE}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<nav aria-label="Contents">
<p class="brand"><a href="/">microdollar</a></p>
<ul>
${contents(blocks)}
</ul>
<p><a href="/api/openapi.json">OpenAPI 3.1</a></p>
</nav>
<main id="content">
<h1>API reference <small>${escapeText(document.info.version)}</small></h1>
${blocks.map(toHtml).join('\n')}
</main>
</body>
</html>
`;
}

/** Its own style and nothing else. */
export const PAGE_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

function contents(blocks: readonly Block[]): string {
  return blocks
    .flatMap((block) => (block.kind === 'heading' ? [block] : []))
    .map(
      ({ level, id, text }) =>
        `<li class="l${level}"><a href="#${id}">${escapeText(text)}</a></li>`,
    )
    .join('\n');
}

function toHtml(block: Block): string {
  switch (block.kind) {
    case 'heading':
      return toHeading(block);
    case 'text':
      return `<p>${toInline(block.text)}</p>`;
    case 'code':
      // Focusable: what is wider than the screen can be scrolled by keys.
      return `<pre tabindex="0"><code>${escapeText(block.text)}</code></pre>`;
    case 'table': {
      const head = block.head.map((cell) => `<th scope="col">${toInline(cell)}</th>`).join('');
      const rows = block.rows
        .map((row) => `<tr>${row.map((cell) => `<td>${toInline(cell)}</td>`).join('')}</tr>`)
        .join('\n');
      return `<div class="table" tabindex="0" role="group" aria-label="Table"><table>
<thead><tr>${head}</tr></thead>
<tbody>
${rows}
</tbody>
</table></div>`;
    }
  }
}

function toHeading({ level, id, text }: Extract<Block, { kind: 'heading' }>): string {
  return `<h${level} id="${id}"><a href="#${id}">${escapeText(text)}</a></h${level}>`;
}

/** Code and strong words; everything else is text. */
function toInline(text: string): string {
  return text
    .split(/(`[^`]+`)/)
    .map((part) =>
      part.startsWith('`') && part.length > 2
        ? `<code>${escapeText(part.slice(1, -1))}</code>`
        : escapeText(part).replace(/\*\*([^*]+)\*\*/g, '<strong>$1</strong>'),
    )
    .join('');
}

function escapeText(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
