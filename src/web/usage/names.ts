import type { Group } from './series.js';
import type { Grouping } from './usageState.js';

/** How a group of a dimension is called. */
export type NameOf = (by: Grouping | null, group: Pick<Group, 'id' | 'isOther'>) => string;

const NONE: Record<Grouping, string> = {
  none: 'All',
  model: 'no model named',
  provider: 'no provider named',
  key: 'no key known',
  project: 'no project',
  member: 'no member known',
};

/** What is known of keys by id: their names, or how they begin. */
export function createNameOf(keys: ReadonlyMap<string, string>): NameOf {
  return (by, { id, isOther }) => {
    if (isOther) return 'Other';
    if (by === null || by === 'none') return NONE.none;
    if (id === null) return NONE[by];
    return by === 'key' ? (keys.get(id) ?? `key ${id.slice(0, 8)}…`) : id;
  };
}
