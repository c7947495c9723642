import { type FormEvent, useEffect, useState } from 'react';
import { Button } from 'react-aria-components';
import { isolate } from '../components/Name.js';
import { type RequestState, STATUSES, type Status } from './requestState.js';

const STATUS_TEXT: Record<Status, string> = { ok: 'OK', error: 'Error', refund: 'Refund' };

/** Model, key, status and cost. A view of one key has no other. */
export function RequestFilters({
  filters,
  isAmount,
  problem,
  keys,
  viewKey,
  onChange,
}: {
  filters: RequestState;
  /** Names of keys by id. */
  keys: ReadonlyMap<string, string>;
  /** The one that the whole view is narrowed to. */
  viewKey: string | null;
  isAmount: { min: boolean; max: boolean };
  /** What is wrong with the costs, in words. */
  problem: string | null;
  onChange(change: Partial<RequestState>): void;
}) {
  const [typed, setTyped] = useState({ model: '', min: '', max: '' });
  // Upon what was typed last, not upon what was shown last: keys may be faster than the page.
  const type = (change: Partial<typeof typed>) => setTyped((before) => ({ ...before, ...change }));
  useEffect(() => type({ model: filters.model }), [filters.model]);
  useEffect(() => type({ min: filters.min }), [filters.min]);
  useEffect(() => type({ max: filters.max }), [filters.max]);

  function submit(event: FormEvent) {
    event.preventDefault();
    onChange({ ...typed, after: null });
  }

  const isNarrowed =
    filters.model !== '' ||
    filters.key !== null ||
    filters.status !== null ||
    filters.min !== '' ||
    filters.max !== '';
  return (
    <form className="request-filters" onSubmit={submit} aria-label="Filter requests">
      <label>
        Model
        <input
          type="search"
          placeholder="part of its name"
          value={typed.model}
          onChange={(event) => type({ model: event.target.value })}
        />
      </label>
      <label>
        Key
        <select
          aria-label="Key"
          value={viewKey ?? filters.key ?? ''}
          disabled={viewKey !== null}
          onChange={(event) => onChange({ key: event.target.value || null, after: null })}
        >
          <option value="">Any</option>
          {[viewKey ?? filters.key].map((id) =>
            id === null || keys.has(id) ? null : (
              <option key={id} value={id}>
                {id}
              </option>
            ),
          )}
          {[...keys].map(([id, name]) => (
            <option key={id} value={id}>
              {isolate(name)}
            </option>
          ))}
        </select>
      </label>
      <label>
        Status
        <select
          aria-label="Status"
          value={filters.status ?? ''}
          onChange={(event) =>
            onChange({ status: (event.target.value || null) as Status | null, after: null })
          }
        >
          <option value="">Any</option>
          {STATUSES.map((status) => (
            <option key={status} value={status}>
              {STATUS_TEXT[status]}
            </option>
          ))}
        </select>
      </label>
      {(['min', 'max'] as const).map((name) => (
        <label key={name}>
          {name === 'min' ? 'Cost from, $' : 'to, $'}
          <input
            inputMode="decimal"
            value={typed[name]}
            aria-invalid={!isAmount[name]}
            onChange={(event) => type({ [name]: event.target.value })}
          />
        </label>
      ))}
      <Button className="button" type="submit">
        Filter
      </Button>
      {isNarrowed && (
        <Button
          className="button quiet"
          onPress={() =>
            onChange({ model: '', key: null, status: null, min: '', max: '', after: null })
          }
        >
          Clear
        </Button>
      )}
      {problem !== null && (
        <p className="field-problem" role="alert">
          {problem}
        </p>
      )}
    </form>
  );
}
