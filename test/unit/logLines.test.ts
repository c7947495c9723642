import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { logLines } from '../../src/logLines.js';

let dir: string;
let file: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'microdollar-test-'));
  file = join(dir, 'log');
  writeFileSync(file, '');
});

afterEach(() => rmSync(dir, { recursive: true }));

describe('a log', () => {
  it('has each line as soon as it is told', () => {
    const fd = openSync(file, 'a');
    const log = pino({ base: null, timestamp: false }, logLines(fd));
    log.info('one');
    log.fatal('two – ✓');
    expect(readFileSync(file, 'utf8')).toBe(
      '{"level":30,"msg":"one"}\n{"level":60,"msg":"two – ✓"}\n',
    );
    closeSync(fd);
  });

  it('that cannot be written loses the line alone: nobody who logs fails, or waits', () => {
    const fd = openSync(file, 'r');
    const log = pino({ base: null }, logLines(fd));
    log.info('lost');
    log.fatal('lost');
    closeSync(fd);
  });
});
