import { spawnSync } from 'node:child_process';

const isRoot = process.getuid?.() === 0;
/** An ordinary user gets the right to mount with a user namespace, where the system allows it. */
const UNSHARE = isRoot
  ? ['unshare', '-m']
  : ['unshare', '-U', '-m', '--map-current-user', '--keep-caps'];

/**
 * Runs a command with mounts that only it and its children see: `script` (sh) makes them. The
 * command gets the same process id.
 */
export function withMounts(script: string, ...args: string[]): string[] {
  const body = `set -e\n${script}\nexec "$@"`;
  return [...UNSHARE, 'sh', '-c', body, args[0] ?? 'sh', ...args.slice(1)];
}

/** Containers without CAP_SYS_ADMIN do not let even root mount. */
export const MAY_MOUNT =
  spawnSync('unshare', [...UNSHARE.slice(1), 'sh', '-c', 'mount -t tmpfs tmpfs /dev/shm'])
    .status === 0;

/** Docker's filter and Ubuntu (as of 24.04) leave ordinary users no namespace of users. */
export const MAY_MAP_USERS = spawnSync('unshare', ['-U', '--map-user=12345', 'true']).status === 0;
