export interface Mounts {
  /** Where the root of the image is seen. */
  root: string;
  /** The overlay's own. */
  work: string;
  /** What is written. */
  upper: string;
  /** What lies below it, the newest first; this machine's root comes last. */
  lower: readonly string[];
  binds: readonly { target: string; source: string }[];
  /** Nothing but the binds and /tmp can be written. */
  readOnly?: boolean;
}

/**
 * A program for `sh -c`, in a mount namespace of its own, that makes a root as an image has it and
 * executes its arguments.
 */
export function mountScript({ root, work, upper, lower, binds, readOnly }: Mounts): string {
  const layers = [...lower, '/'].join(':');
  const lines = [
    'set -e',
    'mount --make-rprivate /',
    `mount -t overlay overlay -o lowerdir=${layers},upperdir=${upper},workdir=${work} ${root}`,
    `mkdir -p ${root}/proc ${root}/dev ${root}/tmp`,
    ...binds.map(({ target }) => `mkdir -p ${root}${target}`),
    ...(readOnly ? [`mount -o remount,ro ${root}`] : []),
    `mount -t proc proc ${root}/proc`,
    `mount --rbind /dev ${root}/dev`,
    `mount -t tmpfs tmpfs ${root}/tmp`,
    ...binds.map(({ source, target }) => `mount --bind ${source} ${root}${target}`),
    'exec "$0" "$@"',
  ];
  return lines.join('\n');
}
