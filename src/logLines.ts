import { writeSync } from 'node:fs';

const STDERR = 2;
const PAUSE_MS = 10;
const MAX_PAUSES = 100;

/**
 * Where the lines of a log go, each at once. One that cannot be written is lost: a full disk, a
 * closed terminal or a reader that went away, or stands still, must fail no request and hold up no
 * stop. The next one is tried again. pino's own destination throws from the call that logs, and
 * waits without end where a line is fatal.
 */
export function logLines(fd = STDERR): { write(line: string): void } {
  /** Its reader stands still: a line was waited for, and no other is until it has taken one. */
  let isStuck = false;
  /** The last line was lost amid it. */
  let isCut = false;
  return {
    write(line) {
      const bytes = Buffer.from(isCut ? `\n${line}` : line);
      let rest = bytes;
      for (let pauses = 0; rest.length > 0; pauses++) {
        try {
          rest = rest.subarray(writeSync(fd, rest));
        } catch (error) {
          // A pipe that is full for now, and does not block.
          const isFull = (error as NodeJS.ErrnoException).code === 'EAGAIN';
          if (!isFull || isStuck || pauses >= MAX_PAUSES) {
            isStuck = isFull;
            isCut ||= rest.length < bytes.length;
            return;
          }
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
        }
      }
      isStuck = false;
      isCut = false;
    },
  };
}
