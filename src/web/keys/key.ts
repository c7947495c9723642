import type { Outputs } from '../api.js';

export type Key = Outputs['keys']['list']['keys'][number];

/** Its name, else how it begins. */
export function nameOfKey({ name, key_prefix }: Pick<Key, 'name' | 'key_prefix'>): string {
  return name ?? `${key_prefix}…`;
}

/** By id; a name that several have is told apart by how each begins. */
export function namesOfKeys(
  keys: readonly Pick<Key, 'id' | 'name' | 'key_prefix'>[],
): Map<string, string> {
  const ids = new Map<string, Set<string>>();
  for (const key of keys) {
    const name = nameOfKey(key);
    ids.set(name, (ids.get(name) ?? new Set()).add(key.id));
  }
  return new Map(
    keys.map((key) => {
      const name = nameOfKey(key);
      const isShared = (ids.get(name)?.size ?? 0) > 1;
      return [key.id, isShared ? `${name} (${key.key_prefix}…)` : name];
    }),
  );
}
