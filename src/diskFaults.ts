/** What the system says of a disk, not of the path: the work may be done elsewhere, or later. */
const DISK_FAULTS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk is full',
  EFBIG: 'the disk is full',
  EIO: 'the disk failed',
};

/** In words; null for any other error of the system. */
export function diskFault(code: unknown): string | null {
  return DISK_FAULTS[String(code)] ?? null;
}
