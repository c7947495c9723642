import { useMutation } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { Button, Input, Label, TextField } from 'react-aria-components';
import { type Failure, toFailure } from '../api.js';
import { ErrorNotice } from '../components/Notice.js';
import { useSession } from '../session.js';
import { ROLES, type Role } from './MemberTable.js';

/** A user that exists becomes a member. */
export function NewMember({
  organizationId,
  onAdded,
}: {
  organizationId: string;
  onAdded(): Promise<unknown>;
}) {
  const { api } = useSession();
  const [user, setUser] = useState('');
  const [role, setRole] = useState<Role>('member');
  const add = useMutation({
    mutationFn: () =>
      api.members.add.mutate({ organization_id: organizationId, kilo_user_id: user.trim(), role }),
    onSuccess: () => {
      setUser('');
      setRole('member');
    },
    onSettled: onAdded,
  });

  function submit(event: FormEvent) {
    event.preventDefault();
    if (user.trim() !== '') add.mutate();
  }

  return (
    <form className="new-key" onSubmit={submit} aria-label="New member">
      <div className="request-filters">
        <TextField className="key-name" value={user} onChange={setUser}>
          <Label>User id</Label>
          <Input spellCheck={false} autoComplete="off" autoCapitalize="none" />
        </TextField>
        <label>
          Role
          <select
            aria-label="Role"
            value={role}
            onChange={(event) => setRole(event.target.value as Role)}
          >
            {ROLES.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <Button
          className="button primary"
          type="submit"
          isDisabled={add.isPending || user.trim() === ''}
        >
          Add
        </Button>
      </div>
      {add.error !== null && (
        <ErrorNotice failure={explain(toFailure(add.error))} what="Nobody was added" />
      )}
      {add.data !== undefined && (
        <p className="notice" role="status">
          <bdi>{add.data.kilo_user_id}</bdi> is a member now, as {add.data.role}.
        </p>
      )}
    </form>
  );
}

function explain(failure: Failure): Failure {
  if (failure.code !== 'unknown_user') return failure;
  return { ...failure, message: 'there is no user with this id in this ledger' };
}
