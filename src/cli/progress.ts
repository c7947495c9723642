import { SingleBar } from 'cli-progress';
import type { Output } from './output.js';

export interface Progress {
  /** `rate`: shown behind the time left. */
  update(done: number, shown?: { rate: string }): void;
  stop(): void;
}

const NONE: Progress = { update: () => {}, stop: () => {} };

/** A bar on stderr when that is a terminal; nothing otherwise. With `unit`, the counts as well. */
export function startProgress(
  output: Output,
  label: string,
  total: number,
  unit?: string,
): Progress {
  const { stderr } = output.streams;
  if (output.json || stderr.isTTY !== true || total <= 0) return NONE;
  const counts = unit ? `  {value}/{total} ${unit}` : '';
  const bar = new SingleBar({
    format: `${label} {bar} {percentage}%${counts}  {eta_formatted} left{rate}`,
    stream: stderr,
    clearOnComplete: true,
    hideCursor: true,
  });
  bar.start(total, 0, { rate: '' });
  return {
    update: (done, shown) =>
      bar.update(Math.min(done, total), { rate: shown ? `  ${shown.rate}` : '' }),
    stop: () => bar.stop(),
  };
}
