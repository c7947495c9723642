import { createServer } from 'node:net';
import { LedgerError } from '../errors.js';
import type { Environment } from './environment.js';

/**
 * Listens where the server will, and stops: what is wrong with HOST or PORT is told before
 * anything is started, made or migrated.
 *
 * @throws LedgerError `unavailable`
 */
export async function requireFreeAddress(environment: Environment): Promise<void> {
  const { host, port } = environment;
  const probe = createServer();
  try {
    await new Promise<void>((resolve, reject) => {
      probe.once('error', reject);
      probe.listen({ host, port, exclusive: true }, resolve);
    });
  } catch (error) {
    throw describeListenFailure(error, environment);
  }
  await new Promise((resolve) => probe.close(resolve));
}

export function describeListenFailure(error: unknown, { host, port }: Environment): unknown {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  const remedies: Record<string, string> = {
    EADDRINUSE: `port ${port} on ${host} is in use; set PORT to a free one (PORT=0 picks one)`,
    EACCES: `port ${port} on ${host} is not allowed to this user; set PORT above 1023`,
    EADDRNOTAVAIL: `${host} is no address of this machine; set HOST`,
    ENOTFOUND: `${host} is not known; set HOST`,
  };
  const message = code === undefined ? undefined : remedies[code];
  if (message === undefined) return error;
  return new LedgerError('unavailable', message, { details: { host, port }, cause: error });
}
