import { extension, idParam, newHold, settlement } from '../../routes/holds.js';
import { EXAMPLE } from '../examples.js';
import { toJsonSchema } from '../jsonSchema.js';
import type { AnswerDoc, OperationDoc } from '../types.js';

export const holdSchemas = {
  NewHold: toJsonSchema(newHold),
  Settlement: toJsonSchema(settlement),
  Extension: toJsonSchema(extension),
};

const granted = (amount: number): AnswerDoc => ({
  description: 'Held; `duplicate`: it was before',
  body: {
    schema: 'Hold',
    example: {
      id: EXAMPLE.hold,
      status: 'granted',
      amount,
      available_microdollars: 20_000_000 - amount,
      created_at: EXAMPLE.atMicros,
    },
  },
});

const refusal = (description: string, resets: object): AnswerDoc => ({
  description,
  headers: ['retry-after'],
  body: {
    schema: 'Error',
    example: {
      error: {
        code: 'budget_exceeded',
        message: 'the month budget of the user has 1200 microdollars left',
        details: {
          id: EXAMPLE.hold,
          status: 'refused',
          amount: 0,
          available_microdollars: 1200,
          created_at: null,
          refused_by: {
            id: EXAMPLE.budget,
            scope: 'user',
            window: 'month',
            is_balance: false,
            limit_microdollars: 20_000_000,
          },
          ...resets,
        },
      },
    },
  },
});

const refusals = {
  402: refusal('`budget_exceeded`: only money helps', { resets_at: null }),
  429: refusal('`budget_exceeded`: the end of a window helps', {
    resets_at: '2026-12-01T00:00:00.000000Z',
  }),
};

const released: AnswerDoc = {
  description: 'Given back; `settled`: its usage is recorded already',
  body: { schema: 'ReleasedHold', example: { id: EXAMPLE.otherHold, status: 'released' } },
};

const common = { tag: 'holds', scope: 'usage:write' } as const;

export const holdOperations: readonly OperationDoc[] = [
  {
    ...common,
    id: 'hold',
    method: 'post',
    path: '/api/holds',
    summary: 'Hold money before it is spent',
    description:
      'From the balance and from every budget that counts the request, all or none. The ' +
      'same `id` again answers `duplicate`.',
    bodies: [
      {
        schema: 'NewHold',
        example: { id: EXAMPLE.hold, kilo_user_id: EXAMPLE.user, amount: 5_000 },
      },
    ],
    answers: { 200: granted(5_000), ...refusals },
    errors: ['invalid_event', 'unknown_user', 'unknown_organization', 'idempotency_conflict'],
  },
  {
    ...common,
    id: 'settleHold',
    method: 'post',
    path: '/api/holds/{id}/settle',
    summary: 'Record the usage of a hold',
    description:
      'Records the event under the id of the hold, and gives the rest back in the same ' +
      'statement. Again is a `duplicate`.',
    params: idParam,
    bodies: [
      { schema: 'Settlement', example: { event: { kilo_user_id: EXAMPLE.user, cost: 1250 } } },
    ],
    answers: {
      200: {
        description: 'Recorded',
        body: {
          schema: 'RecordedUsage',
          example: {
            id: EXAMPLE.hold,
            status: 'recorded',
            created_at: EXAMPLE.atMicros,
            new_microdollars_used: 1250,
          },
        },
      },
    },
    errors: ['invalid_event', 'not_found', 'idempotency_conflict', 'archived_period'],
  },
  {
    ...common,
    id: 'extendHold',
    method: 'post',
    path: '/api/holds/{id}/extend',
    summary: 'Raise what is held',
    description: 'To `amount` in all: again is a `duplicate`. A refusal leaves the hold as it is.',
    params: idParam,
    bodies: [{ schema: 'Extension', example: { amount: 8_000 } }],
    answers: { 200: granted(8_000), ...refusals },
    errors: ['invalid_event', 'not_found'],
  },
  {
    ...common,
    id: 'releaseHold',
    method: 'post',
    path: '/api/holds/{id}/release',
    summary: 'Give a hold back',
    description: 'Needs no body. Again is a `duplicate`.',
    params: idParam,
    answers: { 200: released },
    errors: ['not_found'],
  },
  {
    ...common,
    id: 'deleteHold',
    method: 'delete',
    path: '/api/holds/{id}',
    summary: 'Give a hold back',
    description: 'As `POST /api/holds/{id}/release`.',
    params: idParam,
    answers: { 200: released },
    errors: ['not_found'],
  },
];
