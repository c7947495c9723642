import { anchorAt, type Ticks, textWidth } from './ticks.js';

export interface Frame {
  width: number;
  height: number;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

const LABEL_HEIGHT = 28;

/** Room for the widest label of the value axis, so none is cut. */
export function frameOf(width: number, height: number, labels: readonly string[]): Frame {
  const left = Math.max(28, ...labels.map(textWidth)) + 6;
  return { width, height, left, right: width - 6, top: 10, bottom: height - LABEL_HEIGHT };
}

export function yOf(value: number, ticks: Ticks, frame: Frame): number {
  const share = (value - ticks.low) / (ticks.high - ticks.low);
  return frame.bottom - share * (frame.bottom - frame.top);
}

/** Grid lines and labels of both axes. */
export function Axes({
  frame,
  ticks,
  format,
  labels,
}: {
  frame: Frame;
  ticks: Ticks;
  format(value: number): string;
  /** Along the bottom; `x` is the middle of what they name. */
  labels: readonly { key: string | number; x: number; text: string }[];
}) {
  return (
    <g className="chart-axes">
      {ticks.values.map((value) => {
        const y = yOf(value, ticks, frame);
        return (
          <g key={value}>
            <line
              className={value === 0 ? 'chart-zero' : 'chart-grid'}
              x1={frame.left}
              x2={frame.right}
              y1={y}
              y2={y}
            />
            <text x={frame.left - 8} y={y} dy="0.32em" textAnchor="end">
              {format(value)}
            </text>
          </g>
        );
      })}
      {labels.map(({ key, x, text }) => (
        <text
          key={key}
          y={frame.bottom + 19}
          {...anchorAt(x, textWidth(text), frame.left - 8, frame.width)}
        >
          {text}
        </text>
      ))}
    </g>
  );
}
