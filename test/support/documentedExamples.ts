import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

const REPOSITORY = path.join(import.meta.dirname, '../..');

/** Of this repository's tests, not of the package. */
const OTHER = new Set(['docs/testing.md']);

/** What an example is given by the words around it, where it does not declare it itself. */
const GIVEN: Readonly<Record<string, string>> = {
  requestId: 'string',
  id: 'string',
  kilo_user_id: 'string',
  organization_id: 'string | null',
  api_key_id: 'string | null',
  project_id: 'string | null',
  amount: 'number',
  expires_in_ms: 'number',
  ledger: `import('microdollar').Ledger`,
  event: `import('microdollar').UsageEvent`,
  target: `import('microdollar/sdk').UsageTarget`,
  request: `import('openai').OpenAI.Responses.ResponseCreateParamsNonStreaming`,
  openai: `import('openai').OpenAI`,
};
const IMPORTED: Readonly<Record<string, string>> = {
  OpenAI: `import OpenAI from 'openai';`,
  Anthropic: `import Anthropic from '@anthropic-ai/sdk';`,
  anthropic: `import { anthropic } from '@ai-sdk/anthropic';`,
  wrapLanguageModel: `import { wrapLanguageModel } from 'ai';`,
  meteredFetch: `import { meteredFetch } from 'microdollar/sdk';`,
  usageMiddleware: `import { usageMiddleware } from 'microdollar/sdk';`,
  withUsage: `import { withUsage } from 'microdollar/sdk';`,
};

export interface DocumentedExample {
  /** A file name. */
  name: string;
  code: string;
}

/** Each TypeScript example of the README and of the documents, as a module that can be compiled. */
export function readExamples(): DocumentedExample[] {
  const examples: DocumentedExample[] = [];
  for (const file of documents()) {
    const text = readFileSync(path.join(REPOSITORY, file), 'utf8');
    for (const [index, [, block = '']] of [...text.matchAll(/```ts\n([\s\S]*?)```/g)].entries()) {
      const name = `${file.replace(/\.md$/, '').replaceAll(/\W+/g, '-')}-${index + 1}.ts`;
      examples.push({ name, code: `${preambleOf(block)}\n${block}\nexport {};\n` });
    }
  }
  return examples;
}

function documents(): string[] {
  const names = ['docs', 'src'].flatMap((folder) =>
    readdirSync(path.join(REPOSITORY, folder), { recursive: true, encoding: 'utf8' }).map(
      (name) => `${folder}/${name}`,
    ),
  );
  return ['README.md', ...names.filter((name) => name.endsWith('.md')).sort()].filter(
    (name) => !OTHER.has(name),
  );
}

function preambleOf(block: string): string {
  const isFree = (name: string) =>
    new RegExp(`\\b${name}\\b`).test(block) &&
    !new RegExp(`\\b(?:const|let|import)\\b[^;=]*\\b${name}\\b`).test(block);
  const given = Object.entries(GIVEN).filter(([name]) => isFree(name));
  const imported = Object.entries(IMPORTED).filter(([name]) => isFree(name));
  return [
    ...imported.map(([, line]) => line),
    ...given.map(([name, type]) => `declare const ${name}: ${type};`),
  ].join('\n');
}
