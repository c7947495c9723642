import { useId } from 'react';
import { Segments } from '../components/Segments.js';
import { localZone } from '../zones.js';
import { METRIC_CHOICES } from './metrics.js';
import {
  type DayRange,
  GRAINS,
  type Grain,
  grainsOf,
  PRESETS,
  type Preset,
  rangeProblem,
} from './ranges.js';
import { ScopeSelect } from './ScopeSelect.js';
import type { Organization } from './scopes.js';
import { type Grouping, grainOf, type UsageState } from './usageState.js';

const GROUPING_CHOICES: readonly { id: Grouping; text: string }[] = [
  { id: 'none', text: 'Nothing' },
  { id: 'model', text: 'Model' },
  { id: 'provider', text: 'Provider' },
  { id: 'key', text: 'Key' },
  { id: 'project', text: 'Project' },
  { id: 'member', text: 'Member' },
];

/** What is shown. A change of it closes the period that was told in detail. */
export function Toolbar({
  state,
  range,
  organizations,
  isOwner,
  onChange,
}: {
  state: UsageState;
  range: DayRange;
  organizations: readonly Organization[];
  isOwner: boolean;
  onChange(change: Partial<UsageState>): void;
}) {
  const change = (changed: Partial<UsageState>) => onChange({ at: null, ...changed });
  const problem = rangeProblem(range);
  const grains = problem === null ? grainsOf(range) : [];
  const tellsMembers = isOwner || state.by === 'member' || state.andBy === 'member';
  const groupings = GROUPING_CHOICES.filter(({ id }) => id !== 'member' || tellsMembers);
  const zones = [...new Set(['UTC', localZone(), state.zone])];

  function choosePreset(preset: Preset) {
    // A custom range begins as what is shown.
    change(preset === 'custom' ? { preset, ...range } : { preset });
  }

  return (
    <div className="toolbar">
      <div className="toolbar-row">
        {organizations.length > 0 && (
          <ScopeSelect
            scope={state.scope}
            organizations={organizations}
            onChoose={(scope) =>
              change({
                scope,
                member: null,
                key: null,
                ...(state.by === 'member' ? { by: 'model' as const } : {}),
                ...(state.andBy === 'member' ? { andBy: 'none' as const } : {}),
              })
            }
          />
        )}
        <Segments
          label="Metric"
          choices={METRIC_CHOICES}
          chosen={state.metric}
          onChoose={(metric) => onChange({ metric })}
        />
        <Choice
          label="Group by"
          value={state.by}
          choices={groupings}
          onChoose={(by) => onChange({ by })}
        />
        {state.by !== 'none' && (
          <Choice
            label="and by"
            value={state.andBy === state.by ? 'none' : state.andBy}
            choices={groupings.filter(({ id }) => id !== state.by)}
            onChoose={(andBy) => onChange({ andBy })}
          />
        )}
      </div>
      <div className="toolbar-row">
        <Segments label="Range" choices={PRESETS} chosen={state.preset} onChoose={choosePreset} />
        {state.preset === 'custom' && <CustomRange range={range} onChange={change} />}
        {grains.length > 0 && (
          <Choice
            label="Per"
            value={grainOf(state, range)}
            choices={GRAINS.filter(({ id }) => grains.includes(id))}
            onChoose={(grain: Grain) => change({ grain })}
          />
        )}
        <Choice
          label="Time"
          value={state.zone}
          choices={zones.map((zone) => ({
            id: zone,
            text: zone === 'UTC' ? 'UTC' : zone === localZone() ? `Local: ${zone}` : zone,
          }))}
          onChoose={(zone) => change({ zone })}
        />
        <label className="check">
          <input
            type="checkbox"
            checked={state.isCompared}
            onChange={(event) => onChange({ isCompared: event.target.checked })}
          />
          Compare with the period before
        </label>
      </div>
    </div>
  );
}

function Choice<Id extends string>({
  label,
  value,
  choices,
  onChoose,
}: {
  label: string;
  value: Id;
  choices: readonly { id: Id; text: string }[];
  onChoose(id: Id): void;
}) {
  return (
    <label className="scope">
      <span>{label}</span>
      <select
        aria-label={label}
        value={value}
        onChange={(event) => onChoose(event.target.value as Id)}
      >
        {choices.map(({ id, text }) => (
          <option key={id} value={id}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

function CustomRange({
  range,
  onChange,
}: {
  range: DayRange;
  onChange(range: Partial<DayRange>): void;
}) {
  const id = useId();
  const problem = rangeProblem(range);
  const described = problem === null ? {} : { 'aria-describedby': id };
  return (
    <div className="range-days">
      <label>
        From
        <input
          type="date"
          value={range.from}
          max={range.until}
          {...described}
          onChange={(event) => onChange({ from: event.target.value })}
        />
      </label>
      <label>
        to
        <input
          type="date"
          value={range.until}
          min={range.from}
          {...described}
          onChange={(event) => onChange({ until: event.target.value })}
        />
      </label>
      <span className="muted">inclusive</span>
      {problem !== null && (
        <p className="field-problem" id={id} role="alert">
          {problem}
        </p>
      )}
    </div>
  );
}
