import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openApiDocument } from '../src/server/openapi/document.js';
import { toMarkdown } from '../src/server/reference/markdown.js';

const docs = (name: string) => fileURLToPath(new URL(`../docs/${name}`, import.meta.url));

/** The checked-in reference by its file, as `npm run openapi` writes it. */
export function referenceFiles(): Record<string, string> {
  const document = openApiDocument();
  return {
    [docs('openapi.json')]: `${JSON.stringify(document, null, 2)}\n`,
    [docs('api.md')]: toMarkdown(document),
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [file, content] of Object.entries(referenceFiles())) writeFileSync(file, content);
}
