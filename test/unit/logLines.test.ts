import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
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

  it.runIf(process.platform !== 'win32')(
    'whose reader stands still is waited for once, and has whole lines when it goes on',
    () => {
      const pipe = join(dir, 'pipe');
      execFileSync('mkfifo', [pipe]);
      const fd = openSync(pipe, constants.O_RDWR | constants.O_NONBLOCK);
      const waits = vi.spyOn(Atomics, 'wait').mockReturnValue('timed-out');
      const { write } = logLines(fd);
      const line = `${'x'.repeat(4_999)}\n`;
      while (waits.mock.calls.length === 0) write(line);
      const once = waits.mock.calls.length;
      write(line);
      write(line);
      expect(waits.mock.calls.length).toBe(once);

      const taken = Buffer.alloc(200_000);
      let length = readSync(fd, taken);
      write('on\n');
      length += readSync(fd, taken, length, taken.length - length, null);
      const lines = taken.toString('utf8', 0, length).split('\n');
      expect(lines.slice(-2)).toEqual(['on', '']);
      closeSync(fd);
      vi.restoreAllMocks();
    },
  );
});
