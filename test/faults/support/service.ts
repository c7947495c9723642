import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { programPath } from '../../support/programs.js';

const SCRIPT = 'test/support/gatewayWorker.ts';
/** Nobody listens there: no request of the suite goes upstream. */
const NO_UPSTREAM = 'http://127.0.0.1:9';

/** Ledger, gateway and HTTP server as a process of its own, to be killed. */
export interface Service {
  url: string;
  /** @returns the exit status, or the signal */
  end(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | string>;
}

export interface ServiceOptions {
  databaseUrl: string;
  dataDir: string;
  /** 0: a free one. */
  port: number;
}

/** Returns when it listens. @throws with what it printed when it ended first */
export async function startService(options: ServiceOptions): Promise<Service> {
  const { databaseUrl, dataDir, port } = options;
  const args = [programPath(SCRIPT), databaseUrl, dataDir, String(port), NO_UPSTREAM];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'close').then(([status, signal]) => status ?? signal);
  let errors = '';
  child.stderr.on('data', (data) => {
    errors += data;
  });
  const url = await new Promise<string>((resolve, reject) => {
    createInterface(child.stdout).on('line', (line) => {
      if (line.startsWith('http')) resolve(line);
    });
    ended.then((status) => reject(new Error(`the service ended (${status}): ${errors}`)), reject);
  });
  return {
    url,
    end(signal) {
      child.kill(signal);
      return ended;
    },
  };
}
