import path from 'node:path';

const REPOSITORY = path.resolve(import.meta.dirname, '../..');

/** Where real inputs are, should they be there: MICRODOLLAR_TEST_DATA, else `../shared/data`. */
export function testDataDir(): string {
  return path.resolve(REPOSITORY, process.env.MICRODOLLAR_TEST_DATA || '../shared/data');
}

/** The two files of the Azure LLM inference trace, wherever `directory` is. */
export function azureTraceFiles(directory: string): string[] {
  return ['code.csv', 'conv.csv'].map((name) => path.join(directory, 'azure-llm-2023', name));
}
