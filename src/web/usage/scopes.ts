export interface Organization {
  id: string;
  name: string;
  role: string;
}

export const ALL_SCOPES = 'All scopes';
export const PERSONAL = 'Personal';

/** Of a user without organizations everything is their own. */
export function scopeName(scope: string, organizations: readonly Organization[]): string {
  if (scope === 'all') return organizations.length === 0 ? PERSONAL : ALL_SCOPES;
  if (scope === 'personal') return PERSONAL;
  return organizations.find(({ id }) => id === scope)?.name ?? 'Organization';
}

/** By name, then by id. */
export function sortByName<Named extends { id: string; name: string }>(
  all: readonly Named[],
): Named[] {
  return all.toSorted((a, b) => a.name.localeCompare(b.name) || a.id.localeCompare(b.id));
}
