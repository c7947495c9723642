import { type FormEvent, useState } from 'react';
import { Button, Input, Label, TextField } from 'react-aria-components';
import { useSearchParams } from 'react-router';
import { Empty } from '../components/Notice.js';
import type { Identity } from '../session.js';
import { ProfileView } from './ProfileView.js';

/** A user's own profile; with an admin or service key, of the user that is named. */
export default function ProfilePage({ identity }: { identity: Identity }) {
  const [search, setSearch] = useSearchParams();
  const asked = search.get('user');
  const kiloUserId = asked ?? identity.kiloUserId;
  if (!identity.scopes.includes('usage:read')) {
    return (
      <Empty title="This key may not read usage">
        <p>
          It has: {identity.scopes.join(', ') || 'no scopes'}. Sign in with a key that has{' '}
          <code>usage:read</code>.
        </p>
      </Empty>
    );
  }
  if (kiloUserId === null) {
    return <ChooseUser onChoose={(user) => setSearch({ user })} />;
  }
  return (
    <ProfileView
      key={kiloUserId}
      kiloUserId={kiloUserId}
      isOwn={kiloUserId === identity.kiloUserId}
      identity={identity}
    />
  );
}

function ChooseUser({ onChoose }: { onChoose(user: string): void }) {
  const [user, setUser] = useState('');
  function submit(event: FormEvent) {
    event.preventDefault();
    if (user.trim() !== '') onChoose(user.trim());
  }
  return (
    <div className="sign-in">
      <h1>Whose profile?</h1>
      <p className="lead">This key acts for no user. Name one to see that user's usage.</p>
      <form className="sign-in-form" onSubmit={submit}>
        <TextField className="field" value={user} onChange={setUser} isRequired autoFocus>
          <Label>User id</Label>
          <Input spellCheck={false} autoComplete="off" />
        </TextField>
        <Button className="button primary" type="submit">
          Show
        </Button>
      </form>
    </div>
  );
}
