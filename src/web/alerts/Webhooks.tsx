import { type FormEvent, useState } from 'react';
import { Button } from 'react-aria-components';
import { toFailure } from '../api.js';
import { Confirm } from '../components/Confirm.js';
import { CopyCommand } from '../components/CopyCommand.js';
import { TextField } from '../components/FormField.js';
import { Name } from '../components/Name.js';
import { Empty, ErrorNotice } from '../components/Notice.js';
import { Unplaced } from '../components/Unplaced.js';
import { useFocusOnProblem } from '../components/useFocusOnProblem.js';
import { formatInstant } from '../days.js';
import { problemOf } from '../formValues.js';
import type { Payer, Webhook } from './alert.js';
import { useAlertChanges } from './useAlertChanges.js';

/** Where alerts are sent: added, tried, given a new secret, removed. A secret is shown once. */
export function Webhooks({
  webhooks,
  payer,
}: {
  webhooks: readonly Webhook[];
  /** Null: those of everybody are the operator's. */
  payer: Payer | null;
}) {
  const { rotate, enable, test, removeWebhook } = useAlertChanges();
  const [removing, setRemoving] = useState<Webhook | null>(null);
  const failed = rotate.error ?? enable.error ?? removeWebhook.error;
  return (
    <section className="alert-part" aria-label="Webhooks">
      <h3 className="card-subhead">Webhooks</h3>
      <NewWebhook payer={payer} />
      {failed !== null && (
        <ErrorNotice failure={toFailure(failed)} what="The webhook is as it was" />
      )}
      {rotate.data !== undefined && (
        <Secret
          secret={rotate.data.secret}
          more="The secret before signs as well for another day."
        />
      )}
      {test.error !== null && (
        <ErrorNotice failure={toFailure(test.error)} what="Nothing was sent" />
      )}
      {test.data !== undefined && (
        <p className={test.data.delivered ? 'notice' : 'notice warning'} role="status">
          {test.data.delivered
            ? `The test was delivered: HTTP ${test.data.status}.`
            : `The test was not delivered: ${test.data.error ?? `HTTP ${test.data.status}`}.`}
        </p>
      )}
      {webhooks.length === 0 ? (
        <Empty title="No webhooks">
          <p>What is told is listed below, and sent nowhere.</p>
        </Empty>
      ) : (
        <ul className="budgets">
          {webhooks.map((webhook) => (
            <WebhookItem
              key={webhook.id}
              webhook={webhook}
              isBusy={test.isPending || rotate.isPending}
              onTest={() => test.mutate(webhook.id)}
              onRotate={() => rotate.mutate(webhook.id)}
              onEnable={() => enable.mutate(webhook.id)}
              onRemove={() => setRemoving(webhook)}
            />
          ))}
        </ul>
      )}
      <Confirm
        isOpen={removing !== null}
        title="Remove this webhook?"
        action="Remove"
        isDanger
        onConfirm={() => removing !== null && removeWebhook.mutate(removing.id)}
        onClose={() => setRemoving(null)}
      >
        <p>
          Nothing more is sent to <bdi>{removing?.url}</bdi>. What is on its way there is given up.
        </p>
      </Confirm>
    </section>
  );
}

function WebhookItem({
  webhook,
  isBusy,
  onTest,
  onRotate,
  onEnable,
  onRemove,
}: {
  webhook: Webhook;
  isBusy: boolean;
  onTest(): void;
  onRotate(): void;
  onEnable(): void;
  onRemove(): void;
}) {
  const { url, disabled_at, disabled_reason, failing_since, previous_secret_until } = webhook;
  return (
    <li className="budget" data-webhook={webhook.id}>
      <div className="budget-head">
        <span className="budget-name sentence">
          <Name text={url} />
        </span>
        <span className="budget-chips">
          {disabled_at !== null && <span className="chip danger">disabled</span>}
          {disabled_at === null && failing_since !== null && (
            <span className="chip warning">failing</span>
          )}
        </span>
        <span className="row-actions">
          {disabled_at !== null && (
            <Button className="button small" aria-label={`Enable ${url}`} onPress={onEnable}>
              Enable
            </Button>
          )}
          <Button
            className="button small"
            aria-label={`Send a test to ${url}`}
            isDisabled={isBusy}
            onPress={onTest}
          >
            Test
          </Button>
          <Button
            className="button small"
            aria-label={`New secret for ${url}`}
            isDisabled={isBusy}
            onPress={onRotate}
          >
            New secret
          </Button>
          <Button className="button small danger" aria-label={`Remove ${url}`} onPress={onRemove}>
            Remove
          </Button>
        </span>
      </div>
      <p className="card-note">
        {disabled_at !== null
          ? `Disabled since ${formatInstant(disabled_at)} UTC: ${disabled_reason ?? 'it was asked to be'}.`
          : failing_since === null
            ? 'No failure since its last success.'
            : `Failing since ${formatInstant(failing_since)} UTC.`}
        {previous_secret_until !== null &&
          ` Two secrets sign until ${formatInstant(previous_secret_until)} UTC.`}
      </p>
    </li>
  );
}

function NewWebhook({ payer }: { payer: Payer | null }) {
  const { addWebhook } = useAlertChanges();
  const failure = addWebhook.error === null ? null : toFailure(addWebhook.error);
  const form = useFocusOnProblem(addWebhook.error);
  const [url, setUrl] = useState('');

  function submit(event: FormEvent) {
    event.preventDefault();
    if (url.trim() === '') return;
    addWebhook.mutate({ ...payer, url: url.trim() }, { onSuccess: () => setUrl('') });
  }

  return (
    <>
      <form
        ref={form}
        className="budget-form wide-field"
        onSubmit={submit}
        aria-label="New webhook"
      >
        <TextField
          label="URL (https)"
          placeholder="https://example.com/alerts"
          problem={problemOf(failure, 'url')}
          value={url}
          onType={setUrl}
        />
        <div className="row-actions">
          <Button
            className="button"
            type="submit"
            isDisabled={addWebhook.isPending || url.trim() === ''}
          >
            Add a webhook
          </Button>
        </div>
        <Unplaced failure={failure} fields={['url']} what="No webhook was added" />
      </form>
      {addWebhook.data !== undefined && (
        <Secret
          secret={addWebhook.data.secret}
          more="It signs every message (Standard Webhooks)."
        />
      )}
    </>
  );
}

function Secret({ secret, more }: { secret: string; more: string }) {
  return (
    <div className="notice" role="status">
      <div className="made-key">
        <strong>Shown this once; keep it now.</strong>
        <span>{more}</span>
        <CopyCommand label="The secret" command={secret} />
      </div>
    </div>
  );
}
