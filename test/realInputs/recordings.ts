import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { type Answer, WIRE_APIS, type WireApi } from '../support/answers/index.js';
import { testDataDir } from '../support/testData.js';
import { readRecordedUsage } from './recordedUsage.js';

/** What real providers answered, in order of API and name. Fails with the remedy where it is not. */
export function listRecordings(): Answer[] {
  const dir = path.join(testDataDir(), 'wire');
  if (!existsSync(dir)) {
    throw new Error(`no recordings at ${dir}; set MICRODOLLAR_TEST_DATA to the test data`);
  }
  return WIRE_APIS.flatMap((api) =>
    readdirSync(path.join(dir, api))
      .sort()
      .map((file) => readRecording(api, path.join(dir, api, file))),
  );
}

function readRecording(api: WireApi, file: string): Answer {
  const streamed = file.endsWith('.chunks.txt');
  const name = path.basename(file, streamed ? '.chunks.txt' : '.json');
  const text = readFileSync(file, 'utf8');
  const payloads = streamed ? text.split('\n').filter((line) => line.trim() !== '') : [text];
  return { api, name, streamed, payloads, usage: readRecordedUsage(api, streamed, payloads) };
}
