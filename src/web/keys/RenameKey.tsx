import { useMutation, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { Button, Input, Label, TextField } from 'react-aria-components';
import { toFailure } from '../api.js';
import { useSession } from '../session.js';
import type { Key } from './key.js';

/** In the place of the name; Escape leaves it as it was. */
export function RenameKey({ apiKey, onDone }: { apiKey: Key; onDone(): void }) {
  const { api } = useSession();
  const queryClient = useQueryClient();
  const [name, setName] = useState(apiKey.name ?? '');
  const rename = useMutation({
    mutationFn: () => api.keys.rename.mutate({ id: apiKey.id, name: name.trim() || null }),
    onSuccess: onDone,
    onSettled: () => queryClient.invalidateQueries({ queryKey: ['keys.list'] }),
  });

  function submit(event: FormEvent) {
    event.preventDefault();
    rename.mutate();
  }

  return (
    <form className="rename" onSubmit={submit}>
      <TextField
        value={name}
        onChange={setName}
        maxLength={100}
        autoFocus
        onKeyDown={(event) => {
          if (event.key === 'Escape') onDone();
        }}
      >
        <Label className="unseen">New name</Label>
        <Input />
      </TextField>
      <Button className="button small" type="submit" isDisabled={rename.isPending}>
        Save
      </Button>
      {rename.error !== null && (
        <span className="field-problem" role="alert">
          {toFailure(rename.error).message}
        </span>
      )}
    </form>
  );
}
