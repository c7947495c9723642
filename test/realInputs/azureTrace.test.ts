import { existsSync } from 'node:fs';
import { describe } from 'vitest';
import { describeAzureTrace } from '../integration/azureTrace.js';
import { azureTraceFiles, testDataDir } from '../support/testData.js';

describe('the real Azure trace', () =>
  describeAzureTrace(async () => {
    const files = azureTraceFiles(testDataDir());
    for (const file of files) {
      if (existsSync(file)) continue;
      throw new Error(`${file} is missing: set MICRODOLLAR_TEST_DATA to the real inputs`);
    }
    return files;
  }));
