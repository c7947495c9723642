import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AZURE_TRACE_REQUESTS, writeAzureTrace } from '../support/azureTrace.js';
import { describeAzureTrace } from './azureTrace.js';

let directory: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'microdollar-trace-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

describe('a trace of the shape of Azure’s', () => {
  it('has as many requests as it says, some of them twice', async () => {
    const texts = await Promise.all(
      (await writeAzureTrace(directory)).map((file) => readFile(file, 'utf8')),
    );
    const rows = texts.flatMap((text) => text.split('\r\n').slice(1));
    expect(rows).toHaveLength(AZURE_TRACE_REQUESTS);
    expect(new Set(rows).size).toBe(AZURE_TRACE_REQUESTS * (1 - 1 / 50));
  });

  describeAzureTrace(() => writeAzureTrace(directory));
});
