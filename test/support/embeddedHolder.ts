import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { programPath } from './programs.js';

export interface Holder {
  child: ChildProcess;
  /** What the process printed: the server it uses, or how it failed. */
  said: {
    url?: string;
    port?: number;
    pid?: number;
    joined?: boolean;
    dataDir?: string;
    code?: string;
    message?: string;
  };
  /** Sends a word (see holdEmbedded.ts) and waits for the process to end. */
  end(word: 'stop' | 'exit' | 'throw'): Promise<void>;
  kill(): Promise<void>;
}

const SCRIPT = 'test/support/holdEmbedded.ts';

/** Starts another process that uses the embedded server of this data directory. */
export async function holdEmbedded(
  dataDir: string,
  options: SpawnOptions = {},
  startTimeoutMs = 30_000,
): Promise<Holder> {
  const args = [programPath(SCRIPT), dataDir, String(startTimeoutMs)];
  const child = spawn(process.execPath, args, { ...options, stdio: ['pipe', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr?.on('data', (data) => {
    errors += data;
  });
  const ended = once(child, 'exit');
  const said = await new Promise<Holder['said']>((resolve, reject) => {
    if (child.stdout) createInterface(child.stdout).on('line', (line) => resolve(JSON.parse(line)));
    ended.then(() => reject(new Error(`ended without a word: ${errors}`)), reject);
  });
  return {
    child,
    said,
    end: async (word) => {
      child.stdin?.write(`${word}\n`);
      await ended;
    },
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
