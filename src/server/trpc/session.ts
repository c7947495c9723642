import { z } from 'zod';
import { inputOf } from '../validation.js';
import { authenticated } from './procedure.js';

const noInput = z.strictObject({}).nullish();

export const readSession = authenticated
  .meta({ about: 'Whom the key acts for and what it may do.' })
  .input(inputOf(noInput))
  .query(({ ctx }) => ({
    keyId: ctx.principal.keyId,
    /** Null: a service key. */
    kiloUserId: ctx.principal.kiloUserId,
    scopes: [...ctx.principal.scopes],
    /** Monthly tiers in USD, ascending; none where the operator configured none. */
    tiersUsd: [...ctx.tiersUsd],
    /** ISO 8601; "today" is the server's, not the browser's. */
    serverTime: new Date().toISOString(),
  }));
