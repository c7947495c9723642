import { Button } from 'react-aria-components';
import { Name } from '../components/Name.js';
import type { NameOf } from './names.js';
import type { UsageState } from './usageState.js';

/** What narrows the view, each with a way out of it. */
export function ActiveFilters({
  state,
  nameOf,
  onChange,
}: {
  state: UsageState;
  nameOf: NameOf;
  onChange(change: Partial<UsageState>): void;
}) {
  const filters = [
    { by: 'key' as const, id: state.key, off: { key: null } },
    { by: 'member' as const, id: state.member, off: { member: null } },
  ];
  const active = filters.filter(({ id }) => id !== null);
  if (active.length === 0) return null;
  return (
    <ul className="active-filters" aria-label="Filters">
      {active.map(({ by, id, off }) => (
        <li key={by} className="chip">
          Only {by} <Name text={nameOf(by, { id, isOther: false })} />
          <Button
            className="chip-close"
            aria-label={`Show every ${by}`}
            onPress={() => onChange({ ...off, at: null })}
          >
            ×
          </Button>
        </li>
      ))}
    </ul>
  );
}
