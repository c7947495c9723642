import { SingleBar } from 'cli-progress';
import type { Output } from './output.js';
import { shown } from './shownProgress.js';

export interface Progress {
  /** `rate`: shown behind the time left. */
  update(done: number, shown?: { rate: string }): void;
  stop(): void;
}

const NONE: Progress = { update: () => {}, stop: () => {} };

const MAX_BAR = 40;
const MIN_BAR = 8;
/** `100%`, the time left, the rate, and what stands between them. */
const FIGURES_WIDTH = 45;
const NARROW_FIGURES_WIDTH = 22;
const DEFAULT_COLUMNS = 80;

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
  const countsWidth = unit ? 2 * String(total).length + unit.length + 4 : 0;
  const bar = new SingleBar({
    ...layout(stderr.columns ?? DEFAULT_COLUMNS, { label, counts, countsWidth }),
    stream: stderr,
    clearOnComplete: true,
    hideCursor: true,
  });
  bar.start(total, 0, { rate: '' });
  const progress: Progress = {
    update: (done, also) => {
      if (!shown.has(progress)) return;
      bar.update(Math.min(done, total), { rate: also ? `  ${also.rate}` : '' });
    },
    stop: () => {
      if (shown.delete(progress)) bar.stop();
    },
  };
  shown.add(progress);
  return progress;
}

/** One line at any width: the figures first where there is no room for a bar. */
function layout(
  columns: number,
  { label, counts, countsWidth }: { label: string; counts: string; countsWidth: number },
): { format: string; barsize: number } {
  const room = columns - label.length - countsWidth - FIGURES_WIDTH;
  if (room >= MIN_BAR) {
    return {
      format: `${label} {bar} {percentage}%${counts}  {eta_formatted} left{rate}`,
      barsize: Math.min(MAX_BAR, room),
    };
  }
  const name = label.slice(0, Math.max(0, columns - NARROW_FIGURES_WIDTH));
  return { format: `{percentage}%  {eta_formatted} left  ${name}`, barsize: 0 };
}
