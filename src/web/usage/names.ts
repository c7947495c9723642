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

/** Names by id; one that several have is told apart by `hint`. */
export function tellApart(
  all: readonly { id: string; name: string; hint: string }[],
): Map<string, string> {
  const ids = new Map<string, Set<string>>();
  for (const { id, name } of all) ids.set(name, (ids.get(name) ?? new Set()).add(id));
  return new Map(
    all.map(({ id, name, hint }) => [
      id,
      (ids.get(name)?.size ?? 0) > 1 ? `${name} (${hint})` : name,
    ]),
  );
}

/**
 * @param keys what is known of keys by id: their names, or how they begin
 * @param members what members are called, by id
 */
export function createNameOf(
  keys: ReadonlyMap<string, string>,
  members: ReadonlyMap<string, string> = new Map(),
): NameOf {
  return (by, { id, isOther }) => {
    if (isOther) return 'Other';
    if (by === null || by === 'none') return NONE.none;
    if (id === null) return NONE[by];
    if (by === 'member') return members.get(id) ?? id;
    return by === 'key' ? (keys.get(id) ?? `key ${id.slice(0, 8)}…`) : id;
  };
}
