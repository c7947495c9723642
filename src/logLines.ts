import { writeSync } from 'node:fs';

const STDERR = 2;
const PAUSE_MS = 10;
const MAX_PAUSES = 100;

/**
 * Where the lines of a log go, each at once. One that cannot be written is lost: a full disk, a
 * closed terminal or a reader that went away must fail no request and hold up no stop. The next
 * one is tried again. pino's own destination throws from the call that logs, and waits without
 * end where a line is fatal.
 */
export function logLines(fd = STDERR): { write(line: string): void } {
  return {
    write(line) {
      let rest = Buffer.from(line);
      for (let pauses = 0; rest.length > 0 && pauses < MAX_PAUSES; ) {
        try {
          rest = rest.subarray(writeSync(fd, rest));
        } catch (error) {
          // A pipe that is full for now, and does not block.
          if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
          pauses++;
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
        }
      }
    },
  };
}
