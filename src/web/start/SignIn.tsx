import { type FormEvent, useState } from 'react';
import { Button, Input, Label, TextField } from 'react-aria-components';
import { Link } from 'react-router';
import { createApi, type Failure, toFailure } from '../api.js';
import { sentence } from '../sentence.js';
import { useSession } from '../session.js';
import { useTitle } from '../title.js';

const PRINTABLE = /^[!-~]+$/;

/** A key is the whole of an account here. */
export function SignIn() {
  useTitle('Sign in');
  const { reason, signIn } = useSession();
  const [key, setKey] = useState('');
  const [isChecking, setChecking] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);

  async function submit(event: FormEvent) {
    event.preventDefault();
    const given = key.trim();
    if (given === '' || isChecking) return;
    // No header takes it, so the browser would ask nobody.
    if (!PRINTABLE.test(given)) {
      setFailure({ code: 'unauthorized', message: 'no key', details: {} });
      return;
    }
    setChecking(true);
    setFailure(null);
    try {
      await createApi({ getKey: () => given }).session.current.query();
      signIn(given);
    } catch (error) {
      setFailure(toFailure(error));
      setChecking(false);
    }
  }

  return (
    <div className="sign-in">
      <h1>See what was spent, to the microdollar</h1>
      <p className="lead">
        Sign in with a key: a user's key shows that user's usage, an admin key opens the operations
        console. The key stays in this tab and is gone when you close it.
      </p>
      {reason === 'refused' && failure === null && (
        <p className="notice warning" role="alert">
          You were signed out: the key is no longer accepted. It was revoked, or its user deleted.
        </p>
      )}
      {reason === 'left' && failure === null && (
        <p className="notice" role="status">
          You are signed out. The key was removed from this tab.
        </p>
      )}
      <form className="sign-in-form" onSubmit={submit}>
        <TextField
          className="field"
          value={key}
          onChange={setKey}
          isInvalid={failure !== null}
          type="password"
          autoComplete="off"
          name="key"
          isRequired
          autoFocus
          // The server judges a key; the form must stay open to the next one.
          validationBehavior="aria"
        >
          <Label>Key</Label>
          <Input placeholder="md_… or the admin key" spellCheck={false} />
        </TextField>
        <Button className="button primary" type="submit" isDisabled={isChecking}>
          {isChecking ? 'Checking…' : 'Sign in'}
        </Button>
      </form>
      {failure !== null && (
        <p className="notice danger" role="alert">
          {failure.code === 'unauthorized'
            ? 'This key is wrong or was revoked. Nothing was stored.'
            : `The key could not be checked: ${sentence(failure.message)}`}
        </p>
      )}
      <p className="sign-in-more">
        New here? <Link to="/start">First steps</Link>: create a user and a key, and send the first
        event.
      </p>
    </div>
  );
}
