import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createRandom, type Random } from './random.js';
import { azureTraceFiles } from './testData.js';

const SEED = 20_231_116;
const HEADER = 'TIMESTAMP,ContextTokens,GeneratedTokens';
const BEGIN = Date.UTC(2023, 10, 16, 18, 15);
/** Ticks of 100 ns in a millisecond. */
const TICKS = 10_000;
const HOUR_TICKS = 3_600_000 * TICKS;
/** One row in so many is there twice, to the last digit. */
const REPEAT_EVERY = 50;

/** Of code completion: long prompts, short answers. Of conversations: the other way round. */
const SERVICES = {
  'code.csv': { requests: 600, maxContextTokens: 7_000, maxGeneratedTokens: 400 },
  'conv.csv': { requests: 1_400, maxContextTokens: 14_000, maxGeneratedTokens: 1_000 },
};

export const AZURE_TRACE_REQUESTS = 2_000;

/**
 * Made-up requests of one hour in the shape of the Azure LLM inference trace: columns, UTC times of
 * 100 ns, CRLF, none after the last line. The same in every run. @returns the two files
 */
export async function writeAzureTrace(directory: string): Promise<string[]> {
  const files = azureTraceFiles(directory);
  for (const file of files) {
    const name = path.basename(file) as keyof typeof SERVICES;
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, [HEADER, ...makeRows(name)].join('\r\n'));
  }
  return files;
}

function makeRows(name: keyof typeof SERVICES): string[] {
  const { requests, maxContextTokens, maxGeneratedTokens } = SERVICES[name];
  const random = createRandom(SEED, name);
  const times = Array.from({ length: requests }, () => random.between(0, HOUR_TICKS));
  const rows: string[] = [];
  for (const ticks of times.sort((one, other) => one - other)) {
    const context = drawTokens(random, maxContextTokens);
    const generated = drawTokens(random, maxGeneratedTokens);
    const isRepeat = rows.length % REPEAT_EVERY === REPEAT_EVERY - 1;
    const row = `${formatTime(ticks)},${context},${generated}`;
    rows.push(isRepeat ? (rows.at(-1) ?? row) : row);
  }
  return rows;
}

/** Many small, few large. */
function drawTokens(random: Random, max: number): number {
  return 2 + Math.floor(max * random.next() ** 3);
}

function formatTime(ticks: number): string {
  const at = new Date(BEGIN + Math.floor(ticks / TICKS)).toISOString();
  return at.replace('T', ' ').replace('Z', String(ticks % TICKS).padStart(4, '0'));
}
