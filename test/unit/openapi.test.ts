import { readFileSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { Validator } from '@seriousme/openapi-schema-validator';
import { describe, expect, it } from 'vitest';
import { referenceFiles } from '../../scripts/write-openapi.js';
import { HTTP_STATUS } from '../../src/errors.js';
import { ENDPOINTS } from '../../src/gateway/proxy/endpoints.js';
import { EVENT_FIELDS, METADATA_FIELDS, validateEvent } from '../../src/record/event.js';
import { openApiDocument } from '../../src/server/openapi/document.js';
import { REQUEST_HEADERS, RESPONSE_HEADERS } from '../../src/server/openapi/headers.js';
import type { MediaType, Method, Operation } from '../../src/server/openapi/types.js';
import { referenceBlocks } from '../../src/server/reference/content.js';
import { PAGE_POLICY, toPage } from '../../src/server/reference/page.js';
import { appRouter } from '../../src/server/trpc/router.js';
import { compileSchemas } from '../support/openApiSchemas.js';

const SRC = path.join(import.meta.dirname, '../../src');
const document = openApiDocument();
const operations = Object.entries(document.paths).flatMap(([url, methods]) =>
  (Object.entries(methods) as [Method, Operation][]).map(([method, operation]) => ({
    url,
    method,
    operation,
  })),
);

describe('the API reference', () => {
  it('is checked in as the code says it', () => {
    for (const [file, content] of Object.entries(referenceFiles())) {
      expect(readFileSync(file, 'utf8'), 'npm run openapi').toBe(content);
    }
  });

  it('is a valid OpenAPI 3.1 document', async () => {
    const result = await new Validator().validate(JSON.parse(JSON.stringify(document)));
    expect(result).toEqual({ valid: true });
  });

  it('names each operation once, and every schema that is referred to', () => {
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
    const text = JSON.stringify(document);
    const referred = [...text.matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name);
    const named = Object.keys(document.components.schemas);
    expect(new Set(referred)).toEqual(new Set(named));
  });

  it('has every endpoint of the gateway, and no other', () => {
    const documented = operations
      .filter(({ operation }) => operation.tags.includes('gateway'))
      .map(({ url, method }) => `${method.toUpperCase()} ${url}`);
    expect(documented.sort()).toEqual(
      ENDPOINTS.map((each) => `${each.method} ${each.path}`).sort(),
    );
  });

  it('has every tRPC procedure with what it does, and no other', () => {
    const documented = operations.filter(({ operation }) => operation.tags.includes('trpc'));
    const defined = appRouter._def.procedures as unknown as Record<
      string,
      { _def: { type: 'query' | 'mutation' } }
    >;
    const procedures = Object.entries(defined).map(
      ([name, { _def }]) => `${_def.type === 'query' ? 'get' : 'post'} ${name}`,
    );
    expect(
      documented.map(({ method, operation }) => `${method} ${operation.summary}`).sort(),
    ).toEqual(procedures.sort());
    expect(documented.filter(({ operation }) => !operation.description)).toEqual([]);
  });

  it('tells every error code, and every header of ours that the code names', async () => {
    const { errors } = document['x-microdollar'];
    expect(errors.map(({ code }) => code).sort()).toEqual(Object.keys(HTTP_STATUS).sort());
    const known = { ...REQUEST_HEADERS, ...RESPONSE_HEADERS };
    const named = new Set<string>();
    for (const file of await readdir(SRC, { recursive: true })) {
      if (!file.endsWith('.ts') || file.startsWith('server/openapi')) continue;
      const text = await readFile(path.join(SRC, file), 'utf8');
      for (const [name] of text.matchAll(/x-microdollar-[a-z-]+\b/g)) named.add(name);
    }
    const ours = Object.keys(known).filter((name) => name.startsWith('x-microdollar-'));
    expect(ours.sort()).toEqual([...named].sort());
  });
});

describe('the examples', () => {
  const compile = compileSchemas(document);
  const check = ({ schema, example }: MediaType, isAnswer: boolean) =>
    example === undefined ? null : compile(schema, { isClosed: isAnswer })(example);

  it('are of their schemas', () => {
    const wrong: unknown[] = [];
    for (const { operation } of operations) {
      const inputs = (operation.parameters ?? []).flatMap(({ content = {} }) =>
        Object.values(content),
      );
      const bodies = Object.values(operation.requestBody?.content ?? {});
      const answers = Object.values(operation.responses).flatMap(({ content = {} }) =>
        Object.values(content),
      );
      for (const media of [...inputs, ...bodies]) {
        const problems = check(media, false);
        if (problems !== null) wrong.push([operation.operationId, problems]);
      }
      for (const media of answers) {
        const problems = check(media, true);
        if (problems !== null) wrong.push([operation.operationId, problems]);
      }
    }
    expect(wrong).toEqual([]);
  });
});

describe('the schema of an event', () => {
  const compile = compileSchemas(document);
  const problemsOf = compile({ $ref: '#/components/schemas/UsageEvent' });
  const base = { kilo_user_id: 'ada', cost: 1 };
  const uuid = '018f6d2e-6a00-7a3b-9c53-0f6d1a2b3c4d';

  it('has the fields that are taken', () => {
    const { properties } = document.components.schemas.UsageEvent as {
      properties: Record<string, { properties?: object }>;
    };
    expect(Object.keys(properties).sort()).toEqual([...EVENT_FIELDS].sort());
    expect(Object.keys(properties.metadata?.properties ?? {}).sort()).toEqual(
      [...METADATA_FIELDS].sort(),
    );
  });

  it.each([
    base,
    { ...base, id: uuid, organization_id: null, created_at: '2025-11-22T10:00:00.123456+01:00' },
    { ...base, cost: -(10 ** 12), tags: ['a', 'b'], end_user: 'e', metadata: { latency: 1.5 } },
    { ...base, cost: 10 ** 12 + 1 },
    { ...base, cost: 1.5 },
    { ...base, cost: '1' },
    { ...base, cost: null },
    { cost: 1 },
    { kilo_user_id: 'ada' },
    { ...base, kilo_user_id: '' },
    { ...base, id: 'x' },
    { ...base, input_tokens: -1 },
    { ...base, has_error: 'no' },
    { ...base, model: 'x'.repeat(513) },
    { ...base, end_user: '' },
    { ...base, tags: Array.from({ length: 17 }, (_, index) => `t${index}`) },
    { ...base, tags: [''] },
    { ...base, created_at: 'yesterday' },
    { ...base, price: 1 },
    { ...base, metadata: { price: 1 } },
    { ...base, metadata: { usage_details: [] } },
    { ...base, metadata: { status_code: 2 ** 31 } },
  ])('judges as the ledger does: %j', (event) => {
    let isTaken = true;
    try {
      validateEvent(event as never, { nulBytesRemoved: 0 });
    } catch {
      isTaken = false;
    }
    expect(problemsOf(event) === null).toBe(isTaken);
  });
});

describe('the page of the reference', () => {
  const page = toPage(document);

  it('takes nothing from anywhere, and has no script', () => {
    expect(page).not.toMatch(/<script|\bsrc=|@import|url\(|\bon\w+=|style="/);
    const links = [...page.matchAll(/href="([^"]*)"/g)].map(([, target = '']) => target);
    expect(links.filter((target) => !/^(#|\/$|\/api\/openapi\.json$)/.test(target))).toEqual([]);
    expect(PAGE_POLICY).toMatch(/^default-src 'none'; style-src 'sha256-[\w+/=]{44}'/);
  });

  it('has each anchor once, and each that is linked', () => {
    const ids = [...page.matchAll(/ id="([^"]*)"/g)].map(([, id]) => id);
    expect(ids.filter((id, index) => ids.indexOf(id) !== index)).toEqual([]);
    const linked = [...page.matchAll(/href="#([^"]*)"/g)].map(([, id]) => id);
    expect(linked.filter((id) => !ids.includes(id))).toEqual([]);
  });

  it('tells each route', () => {
    const told = new Set(
      referenceBlocks(document).flatMap((each) => (each.kind === 'heading' ? [each.text] : [])),
    );
    const untold = operations
      .filter(({ operation: { tags } }) => !tags.includes('trpc') && !tags.includes('gateway'))
      .map(({ method, url }) => `${method.toUpperCase()} ${url}`)
      .filter((route) => !told.has(route));
    expect(untold).toEqual([]);
  });

  it('shows texts as texts', () => {
    const hostile = structuredClone(document);
    hostile.info.description = '<script>alert(1)</script> & `<b>`';
    expect(toPage(hostile)).toContain(
      '&lt;script&gt;alert(1)&lt;/script&gt; &amp; <code>&lt;b&gt;</code>',
    );
  });
});
