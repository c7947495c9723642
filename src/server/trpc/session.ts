import { z } from 'zod';
import { parseInput } from '../validation.js';
import { authenticated } from './procedure.js';

const noInput = z.strictObject({}).nullish();

/** Whom the key acts for and what it may do; for the page's sign-in. */
export const readSession = authenticated
  .input((value: unknown) => parseInput(noInput, value))
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
