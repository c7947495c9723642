import type { Outputs } from '../api.js';

export type Key = Outputs['keys']['list']['keys'][number];

/** Its name, else how it begins. */
export function nameOfKey({ name, key_prefix }: Pick<Key, 'name' | 'key_prefix'>): string {
  return name ?? `${key_prefix}…`;
}
