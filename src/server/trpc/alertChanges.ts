import { z } from 'zod';
import {
  enableWebhook,
  removeWebhook,
  rotateWebhookSecret,
  testWebhook,
} from '../../alerts/webhooks.js';
import {
  addWebhookAs,
  atOwnWebhook,
  removeAlertAs,
  replayDeliveryAs,
  setAlertAs,
} from '../alertActions.js';
import { newAlertInput, newWebhookInput } from '../alertInput.js';
import { inputOf, uuid } from '../validation.js';
import { procedureFor } from './procedure.js';

const idInput = z.strictObject({ id: uuid });

const set = procedureFor('usage:read', 'Sets an alert, as `POST /api/alerts`.')
  .input(inputOf(newAlertInput))
  .mutation(({ ctx, input }) => setAlertAs(ctx, input));

const remove = procedureFor('usage:read', 'Removes an alert, as `DELETE /api/alerts/{id}`.')
  .input(inputOf(idInput))
  .mutation(({ ctx, input }) => removeAlertAs(ctx, input.id));

const replay = procedureFor('usage:read', 'Sends a dead letter again.')
  .input(inputOf(idInput))
  .mutation(({ ctx, input }) => replayDeliveryAs(ctx, input.id));

const add = procedureFor(
  'usage:read',
  'Adds a webhook; the answer is the only place where its secret is ever seen.',
)
  .input(inputOf(newWebhookInput))
  .mutation(({ ctx, input }) => addWebhookAs(ctx, input));

const rotate = procedureFor(
  'usage:read',
  'A new secret, told once; the one before signs for another day.',
)
  .input(inputOf(idInput))
  .mutation(({ ctx, input }) =>
    atOwnWebhook(ctx, input.id, ({ pool }, id) => rotateWebhookSecret(pool, id)),
  );

const enable = procedureFor('usage:read', 'Sends to a webhook again that was disabled.')
  .input(inputOf(idInput))
  .mutation(({ ctx, input }) =>
    atOwnWebhook(ctx, input.id, ({ pool }, id) => enableWebhook(pool, id)),
  );

const test = procedureFor('usage:read', 'Sends a delivery that says it is a test.')
  .input(inputOf(idInput))
  .mutation(({ ctx, input }) =>
    atOwnWebhook(ctx, input.id, ({ alertStore }, id) => testWebhook(alertStore, id)),
  );

const removeHook = procedureFor('usage:read', 'Removes a webhook.')
  .input(inputOf(idInput))
  .mutation(({ ctx, input }) =>
    atOwnWebhook(ctx, input.id, ({ pool }, id) => removeWebhook(pool, id)),
  );

/** What the page changes of alerts, and of the webhooks that they are sent to. */
export const alertChanges = { set, remove, replay };
export const webhookChanges = { add, rotate, enable, test, remove: removeHook };
