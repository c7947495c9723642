import { useId } from 'react';
import { Segments } from '../components/Segments.js';
import { type DayRange, PRESETS, type Preset, rangeProblem } from './range.js';

/** 7 days, 30 days, three months, or any two days. */
export function RangePicker({
  preset,
  custom,
  onPreset,
  onCustom,
}: {
  preset: Preset;
  custom: DayRange;
  onPreset(preset: Preset): void;
  onCustom(range: DayRange): void;
}) {
  const id = useId();
  const problem = preset === 'custom' ? rangeProblem(custom) : null;
  return (
    <div className="range">
      <Segments label="Range" choices={PRESETS} chosen={preset} onChoose={onPreset} />
      {preset === 'custom' && (
        <div className="range-days">
          <label>
            From
            <input
              type="date"
              value={custom.from}
              max={custom.until}
              aria-describedby={problem === null ? undefined : id}
              onChange={(event) => onCustom({ ...custom, from: event.target.value })}
            />
          </label>
          <label>
            to
            <input
              type="date"
              value={custom.until}
              min={custom.from}
              aria-describedby={problem === null ? undefined : id}
              onChange={(event) => onCustom({ ...custom, until: event.target.value })}
            />
          </label>
          <span className="muted">UTC, inclusive</span>
          {problem !== null && (
            <p className="field-problem" id={id} role="alert">
              {problem}
            </p>
          )}
        </div>
      )}
    </div>
  );
}
