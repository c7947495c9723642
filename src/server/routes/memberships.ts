import { z } from 'zod';
import type { Principal } from '../auth.js';
import { leaveOrganization } from '../leaveOrganization.js';
import type { ServerPlugin } from '../plugins.js';
import { parseInput, uuid } from '../validation.js';

export const leaveParams = z.object({ id: uuid });

/** What a user's own key changes of memberships; the rest is an administrator's (accounts.ts). */
export const membershipRoutes: ServerPlugin = (app, { ledger, requireScope }) => {
  app.post(
    '/api/organizations/:id/leave',
    { onRequest: requireScope('usage:read') },
    async (request) => {
      const { id } = parseInput(leaveParams, request.params);
      return leaveOrganization(ledger, request.principal as Principal, id);
    },
  );
};
