import { type FormEvent, useEffect, useState } from 'react';
import { Button } from 'react-aria-components';
import { type RequestState, STATUSES, type Status } from './requestState.js';

const STATUS_TEXT: Record<Status, string> = { ok: 'OK', error: 'Error', refund: 'Refund' };

/** Model, status and cost; the key is chosen in the report above. */
export function RequestFilters({
  filters,
  isAmount,
  onChange,
}: {
  filters: RequestState;
  isAmount: { min: boolean; max: boolean };
  onChange(change: Partial<RequestState>): void;
}) {
  const [typed, setTyped] = useState({ model: '', min: '', max: '' });
  useEffect(() => {
    setTyped({ model: filters.model, min: filters.min, max: filters.max });
  }, [filters.model, filters.min, filters.max]);

  function submit(event: FormEvent) {
    event.preventDefault();
    onChange({ ...typed, after: null });
  }

  const isNarrowed =
    filters.model !== '' || filters.status !== null || filters.min !== '' || filters.max !== '';
  return (
    <form className="request-filters" onSubmit={submit} aria-label="Filter requests">
      <label>
        Model
        <input
          type="search"
          placeholder="part of its name"
          value={typed.model}
          onChange={(event) => setTyped({ ...typed, model: event.target.value })}
        />
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
            onChange={(event) => setTyped({ ...typed, [name]: event.target.value })}
          />
        </label>
      ))}
      <Button className="button" type="submit">
        Filter
      </Button>
      {isNarrowed && (
        <Button
          className="button quiet"
          onPress={() => onChange({ model: '', status: null, min: '', max: '', after: null })}
        >
          Clear
        </Button>
      )}
      {!(isAmount.min && isAmount.max) && (
        <p className="field-problem" role="alert">
          A cost is an amount in USD with at most six decimals, like 0.0025.
        </p>
      )}
    </form>
  );
}
