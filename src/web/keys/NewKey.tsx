import { useMutation, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { Button, Input, Label, TextField } from 'react-aria-components';
import { toFailure } from '../api.js';
import { CopyCommand } from '../components/CopyCommand.js';
import { isolate } from '../components/Name.js';
import { ErrorNotice } from '../components/Notice.js';
import { type Identity, useSession } from '../session.js';
import { type Organization, PERSONAL, sortByName } from '../usage/scopes.js';

const SCOPES = {
  gateway: 'gateway: requests to models',
  'usage:read': 'usage:read: this page and reports',
  'usage:write': 'usage:write: recording usage',
} as const;
type OfferedScope = keyof typeof SCOPES;

/** A new key: its name, who pays, what it may do. It is shown once. */
export function NewKey({
  identity,
  kiloUserId,
  organizations,
}: {
  identity: Identity;
  kiloUserId: string;
  organizations: readonly Organization[];
}) {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const offered = (Object.keys(SCOPES) as OfferedScope[]).filter((scope) =>
    identity.scopes.includes(scope),
  );
  const [name, setName] = useState('');
  const [payer, setPayer] = useState('');
  const [scopes, setScopes] = useState<OfferedScope[]>(offered.slice(0, 1));
  const create = useMutation({
    mutationFn: () =>
      api.keys.create.mutate({
        ...(kiloUserId === identity.kiloUserId ? {} : { kilo_user_id: kiloUserId }),
        name: name.trim() || null,
        organization_id: payer || null,
        scopes,
      }),
    onSuccess: () => setName(''),
    onSettled: () => queryClient.invalidateQueries({ queryKey: ['keys.list'] }),
  });

  function submit(event: FormEvent) {
    event.preventDefault();
    if (scopes.length > 0) create.mutate();
  }

  return (
    <form className="new-key" onSubmit={submit} aria-label="New key">
      <div className="request-filters">
        <TextField className="key-name" value={name} onChange={setName} maxLength={100}>
          <Label>Name</Label>
          <Input placeholder="laptop, CI, ..." autoComplete="off" />
        </TextField>
        {organizations.length > 0 && (
          <label>
            Pays
            <select
              aria-label="Pays"
              value={payer}
              onChange={(event) => setPayer(event.target.value)}
            >
              <option value="">{PERSONAL}</option>
              {sortByName(organizations).map(({ id, name: called }) => (
                <option key={id} value={id}>
                  {isolate(called)}
                </option>
              ))}
            </select>
          </label>
        )}
        <fieldset className="scopes">
          <legend>Scopes</legend>
          {offered.map((scope) => (
            <label key={scope} className="check">
              <input
                type="checkbox"
                checked={scopes.includes(scope)}
                onChange={({ target: { checked } }) =>
                  setScopes((chosen) =>
                    offered.filter((each) => (each === scope ? checked : chosen.includes(each))),
                  )
                }
              />
              {SCOPES[scope]}
            </label>
          ))}
        </fieldset>
        <Button
          className="button primary"
          type="submit"
          isDisabled={create.isPending || scopes.length === 0}
        >
          Make a key
        </Button>
      </div>
      {create.error !== null && (
        <ErrorNotice failure={toFailure(create.error)} what="The key was not made" />
      )}
      {create.data !== undefined && (
        <div className="notice" role="status">
          <div className="made-key">
            <strong>Shown this once; keep it now.</strong>
            <CopyCommand label="The new key" command={create.data.key} />
          </div>
        </div>
      )}
    </form>
  );
}
