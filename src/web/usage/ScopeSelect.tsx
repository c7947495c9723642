import { useState } from 'react';
import { isolate } from '../components/Name.js';
import { ALL_SCOPES, type Organization, PERSONAL, sortByName } from './scopes.js';

/** More than these are searched. */
const FEW = 12;

/** Everything together, the user's own, or an organization's. */
export function ScopeSelect({
  scope,
  organizations,
  onChoose,
}: {
  scope: string;
  organizations: readonly Organization[];
  onChoose(scope: string): void;
}) {
  const [search, setSearch] = useState('');
  const wanted = search.trim().toLowerCase();
  const found = sortByName(organizations).filter(
    ({ id, name }) => id === scope || name.toLowerCase().includes(wanted),
  );
  return (
    <div className="scope">
      {organizations.length > FEW && (
        <input
          type="search"
          className="scope-search"
          placeholder={`Search ${organizations.length} organizations`}
          aria-label="Search organizations"
          value={search}
          onChange={(event) => setSearch(event.target.value)}
        />
      )}
      <label className="scope">
        <span>Scope</span>
        <select aria-label="Scope" value={scope} onChange={(event) => onChoose(event.target.value)}>
          <option value="all">{ALL_SCOPES}</option>
          <option value="personal">{PERSONAL}</option>
          {scope !== 'personal' && scope !== 'all' && found.every(({ id }) => id !== scope) && (
            <option value={scope}>not one of yours</option>
          )}
          {found.map(({ id, name }) => (
            <option key={id} value={id}>
              {isolate(name)}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}
