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
      <h2>Only looking?</h2>
      <p>
        Three months of made-up traffic beside what is there, and the keys to look at it with. This
        server may go on.
      </p>
      <CopyCommand label="Fill with demo traffic" command="npm run -s microdollar -- demo --yes" />
    </div>
  );
}

/** The commands alone; also shown where a view is still empty. */
export function Steps({
  userId = 'ada',
  level: Step = 'h2',
}: {
  userId?: string;
  level?: 'h2' | 'h3';
}) {
  const url = window.location.origin;
  // Inside of the shell's single quotes.
  const user = JSON.stringify(userId).replaceAll("'", "'\\''");
  const json = `-H 'content-type: application/json'`;
  const asAdmin = `-H "authorization: Bearer $ADMIN_KEY"`;
  const lines = (...parts: string[]) => parts.join(' \\\n  ');
  return (
    <ol className="steps">
      <li>
        <Step>Take the admin key</Step>
        <p>It was printed once at the first start, and is kept in the data directory.</p>
        <CopyCommand
          label="Read the admin key"
          command={`export ADMIN_KEY="\${MICRODOLLAR_ADMIN_KEY:-$(cat "\${MICRODOLLAR_DATA_DIR:-.microdollar}/admin-key")}"`}
        />
      </li>
      <li>
        <Step>Create a user</Step>
        <CopyCommand
          label="Create a user"
          command={lines(`curl -s ${url}/api/users`, asAdmin, json, `-d '{"id":${user}}'`)}
        />
      </li>
      <li>
        <Step>Create a key for the user</Step>
        <p>The answer shows it this once. It is what one signs in with, and what sends events.</p>
        <CopyCommand
          label="Create a key"
          command={lines(
            `curl -s ${url}/api/keys`,
            asAdmin,
            json,
            `-d '{"kilo_user_id":${user},"scopes":["usage:write","usage:read"]}'`,
          )}
        />
      </li>
      <li>
        <Step>Send the first event</Step>
        <p>
          <code>cost</code> is in microdollars: 1,250 is $0.001250. Sending the same <code>id</code>{' '}
          again changes nothing.
        </p>
        <CopyCommand
          label="Send an event"
          command={lines(
            `curl -s ${url}/api/usage`,
            `-H 'authorization: Bearer md_…'`,
            json,
            `-d '{"events":[{"kilo_user_id":${user},"model":"gpt-4o","cost":1250}]}'`,
          )}
        />
      </li>
    </ol>
  );
}
