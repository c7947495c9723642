export interface Mounts {
  /** Where the root of the image is seen. */
  root: string;
  /** The overlay's own. */
  work: string;
  /** What lies over this machine's root, and takes what is written. */
  upper: string;
  binds: readonly { target: string; source: string }[];
  /** Nothing but the binds and /tmp can be written. */
  readOnly?: boolean;
}

/**
 * A program for `sh -c`, in a mount namespace of its own, that makes a root as an image has it and
 * executes its arguments.
 */
export function mountScript({ root, work, upper, binds, readOnly }: Mounts): string {
  const lines = [
    'set -e',
    'mount --make-rprivate /',
    `mount -t overlay overlay -o lowerdir=/,upperdir=${upper},workdir=${work} ${root}`,
    `mkdir -p ${root}/proc ${root}/dev ${root}/tmp`,
    // As the image sees it: a link in there may be absolute.
    `place() { echo "${root}$(chroot ${root} readlink -m "$1")"; }`,
    ...binds.map(({ target }) => `mkdir -p "$(place ${target})"`),
    ...(readOnly ? [`mount -o remount,ro ${root}`] : []),
    `mount -t proc proc ${root}/proc`,
    `mount --rbind /dev ${root}/dev`,
    `mount -t tmpfs tmpfs ${root}/tmp`,
    ...binds.map(({ source, target }) => `mount --bind ${source} "$(place ${target})"`),
    'exec "$0" "$@"',
  ];
  return lines.join('\n');
}
