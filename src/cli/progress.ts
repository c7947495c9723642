import { SingleBar } from 'cli-progress';
import type { Output } from './output.js';

export interface Progress {
  update(done: number): void;
  stop(): void;
}

const NONE: Progress = { update: () => {}, stop: () => {} };

/** A bar on stderr when that is a terminal; nothing otherwise. `total` in the unit it shows. */
export function startProgress(output: Output, label: string, total: number): Progress {
  const { stderr } = output.streams;
  if (output.json || stderr.isTTY !== true || total <= 0) return NONE;
  const bar = new SingleBar({
    format: `${label} {bar} {percentage}%  {eta_formatted} left`,
    stream: stderr,
    clearOnComplete: true,
    hideCursor: true,
  });
  bar.start(total, 0);
  return { update: (done) => bar.update(Math.min(done, total)), stop: () => bar.stop() };
}
