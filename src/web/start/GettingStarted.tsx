import { CopyCommand } from '../components/CopyCommand.js';
import { useTitle } from '../title.js';

/** From nothing to a figure on the profile, with this server's own URL. */
export function GettingStarted() {
  useTitle('First steps');
  return (
    <div className="steps-view">
      <h1>First steps</h1>
      <p className="lead">
        Four steps from an empty ledger to a figure on the profile. They run in the directory where{' '}
        <code>microdollar start</code> was started.
      </p>
      <Steps />
      <Gateway />
      <h2>Only looking?</h2>
      <p>
        Three months of made-up traffic beside what is there, and the keys to look at it with. This
        server may go on.
      </p>
      <CopyCommand label="Fill with demo traffic" command="npm run -s microdollar -- demo --yes" />
    </div>
  );
}

/** The commands alone, of a made-up user. */
function Steps() {
  const url = window.location.origin;
  return (
    <ol className="steps">
      <li>
        <h2>Take the admin key</h2>
        <p>It was printed once at the first start, and is kept in the data directory.</p>
        <CopyCommand
          label="Read the admin key"
          command={`export ADMIN_KEY="\${MICRODOLLAR_ADMIN_KEY:-$(cat "\${MICRODOLLAR_DATA_DIR:-.microdollar}/admin-key")}"`}
        />
      </li>
      <li>
        <h2>Create a user</h2>
        <CopyCommand
          label="Create a user"
          command={lines(`curl -s ${url}/api/users`, AS_ADMIN, JSON_BODY, `-d '{"id":"ada"}'`)}
        />
      </li>
      <li>
        <h2>Create a key for the user</h2>
        <p>The answer shows it this once. It is what one signs in with, and what sends events.</p>
        <CopyCommand
          label="Create a key"
          command={lines(
            `curl -s ${url}/api/keys`,
            AS_ADMIN,
            JSON_BODY,
            `-d '{"kilo_user_id":"ada","scopes":["usage:write","usage:read"]}'`,
          )}
        />
      </li>
      <li>
        <h2>Send the first event</h2>
        <FirstEvent userId="ada" />
      </li>
    </ol>
  );
}

/** The other way in: nobody sends events, for the requests pass through here. */
function Gateway() {
  const url = window.location.origin;
  return (
    <>
      <h2>As a gateway</h2>
      <p>
        Started with <code>MICRODOLLAR_OPENAI_KEY</code> or <code>MICRODOLLAR_ANTHROPIC_KEY</code>,
        the provider's, it passes requests on, and prices and records each. A user needs credit, and
        a key with the scope <code>gateway</code>. Their client needs that key and the base URL{' '}
        <code>{url}/v1</code>, one of Anthropic <code>{url}</code>.
      </p>
      <CopyCommand
        label="Add credit and create a gateway key"
        command={[
          'npm run -s microdollar -- credit add --user ada 20',
          'npm run -s microdollar -- key create --user ada --scope gateway',
        ].join('\n')}
      />
      <CopyCommand
        label="Send a request"
        command={lines(
          `curl -s ${url}/v1/chat/completions`,
          `-H 'authorization: Bearer md_…'`,
          JSON_BODY,
          `-d '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}'`,
        )}
      />
    </>
  );
}

const JSON_BODY = `-H 'content-type: application/json'`;
const AS_ADMIN = `-H "authorization: Bearer $ADMIN_KEY"`;
const lines = (...parts: string[]) => parts.join(' \\\n  ');

/** What sends an event of the user; also shown where their view is still empty. */
export function FirstEvent({ userId }: { userId: string }) {
  // Inside of the shell's single quotes.
  const user = JSON.stringify(userId).replaceAll("'", "'\\''");
  return (
    <>
      <p>
        <code>cost</code> is in microdollars: 1,250 is $0.001250. Sending the same <code>id</code>{' '}
        again changes nothing.
      </p>
      <CopyCommand
        label="Send an event"
        command={lines(
          `curl -s ${window.location.origin}/api/usage`,
          `-H 'authorization: Bearer md_…'`,
          JSON_BODY,
          `-d '{"events":[{"kilo_user_id":${user},"model":"gpt-4o","cost":1250}]}'`,
        )}
      />
    </>
  );
}
