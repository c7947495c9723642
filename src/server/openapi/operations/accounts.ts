import {
  creditPayer,
  idParam,
  memberParams,
  newAdjustment,
  newCredit,
  newKey,
  newMember,
  newOrganization,
  newRole,
  newUser,
} from '../../routes/accounts.js';
import { leaveParams } from '../../routes/memberships.js';
import { EXAMPLE } from '../examples.js';
import { toJsonSchema } from '../jsonSchema.js';
import type { OperationDoc } from '../types.js';

export const accountSchemas = {
  NewUser: toJsonSchema(newUser),
  NewOrganization: toJsonSchema(newOrganization),
  NewMember: toJsonSchema(newMember),
  NewRole: toJsonSchema(newRole),
  NewKey: toJsonSchema(newKey),
  NewCredit: toJsonSchema(newCredit),
  NewAdjustment: toJsonSchema(newAdjustment),
};

const membership = {
  organization_id: EXAMPLE.organization,
  kilo_user_id: EXAMPLE.user,
};
const key = {
  id: EXAMPLE.key,
  key_prefix: 'md_3f2b8f0e',
  name: 'laptop',
  kilo_user_id: EXAMPLE.user,
  organization_id: null,
  scopes: ['usage:write', 'usage:read'],
  created_at: EXAMPLE.at,
  last_used_at: null,
  revoked_at: null,
};

const common = { tag: 'accounts', scope: 'admin' } as const;

export const accountOperations: readonly OperationDoc[] = [
  {
    ...common,
    id: 'createUser',
    method: 'post',
    path: '/api/users',
    summary: 'Create a user',
    bodies: [
      { schema: 'NewUser', example: { id: EXAMPLE.user, email: 'ada@example.com', name: 'Ada' } },
    ],
    answers: {
      201: {
        description: 'Created',
        body: {
          schema: 'User',
          example: {
            id: EXAMPLE.user,
            email: 'ada@example.com',
            name: 'Ada',
            microdollars_used: 0,
            total_microdollars_acquired: 0,
            kilo_pass_threshold: null,
            created_at: EXAMPLE.at,
          },
        },
      },
    },
    errors: ['already_exists'],
  },
  {
    ...common,
    id: 'createOrganization',
    method: 'post',
    path: '/api/organizations',
    summary: 'Create an organization',
    bodies: [
      { schema: 'NewOrganization', example: { id: EXAMPLE.organization, name: 'Analytical' } },
    ],
    answers: {
      201: {
        description: 'Created',
        body: {
          schema: 'Organization',
          example: {
            id: EXAMPLE.organization,
            name: 'Analytical',
            microdollars_used: 0,
            total_microdollars_acquired: 0,
            created_at: EXAMPLE.at,
          },
        },
      },
    },
    errors: ['already_exists'],
  },
  {
    ...common,
    id: 'addMember',
    method: 'post',
    path: '/api/organizations/{id}/members',
    summary: 'Add a member',
    params: idParam,
    bodies: [{ schema: 'NewMember', example: { kilo_user_id: EXAMPLE.user, role: 'member' } }],
    answers: {
      201: {
        description: 'Added',
        body: { schema: 'Membership', example: { ...membership, role: 'member' } },
      },
    },
    errors: ['unknown_user', 'unknown_organization', 'already_exists'],
  },
  {
    ...common,
    id: 'setMemberRole',
    method: 'patch',
    path: '/api/organizations/{id}/members/{user}',
    summary: "Change a member's role",
    params: memberParams,
    bodies: [{ schema: 'NewRole', example: { role: 'owner' } }],
    answers: {
      200: {
        description: 'Changed',
        body: { schema: 'Membership', example: { ...membership, role: 'owner' } },
      },
    },
    errors: ['not_found'],
  },
  {
    ...common,
    id: 'removeMember',
    method: 'delete',
    path: '/api/organizations/{id}/members/{user}',
    summary: 'Remove a member',
    description: "The last owner too. What was used stays the organization's.",
    params: memberParams,
    answers: {
      200: {
        description: 'Removed',
        body: { schema: 'RemovedMembership', example: { ...membership, removed: true } },
      },
    },
    errors: ['not_found'],
  },
  {
    ...common,
    id: 'leaveOrganization',
    method: 'post',
    path: '/api/organizations/{id}/leave',
    summary: 'Leave an organization',
    description:
      "Ends the membership of the key's own user; a key that reads alone may not. " +
      'Refused for the last owner.',
    scope: 'usage:read',
    params: leaveParams,
    answers: {
      200: {
        description: 'Left',
        body: { schema: 'RemovedMembership', example: { ...membership, removed: true } },
      },
    },
    errors: ['not_found'],
  },
  {
    ...common,
    id: 'listKeys',
    method: 'get',
    path: '/api/keys',
    summary: 'List keys',
    answers: {
      200: {
        description: 'The newest first, up to 10,000, revoked ones too; never the keys themselves',
        body: { schema: 'ApiKeyList', example: { keys: [key] } },
      },
    },
  },
  {
    ...common,
    id: 'createKey',
    method: 'post',
    path: '/api/keys',
    summary: 'Make a key',
    bodies: [
      {
        schema: 'NewKey',
        example: { name: 'laptop', kilo_user_id: EXAMPLE.user, scopes: key.scopes },
      },
    ],
    answers: {
      201: {
        description: 'The only place where the key itself is ever seen',
        body: { schema: 'CreatedApiKey', example: { ...key, key: 'md_3f2b8f0e...' } },
      },
    },
    errors: ['unknown_user', 'unknown_organization', 'already_exists'],
  },
  {
    ...common,
    id: 'revokeKey',
    method: 'delete',
    path: '/api/keys/{id}',
    summary: 'Revoke a key',
    description: 'For good; again is fine. It stops to work within two seconds.',
    params: idParam,
    answers: {
      200: {
        description: 'Revoked',
        body: { schema: 'ApiKey', example: { ...key, revoked_at: EXAMPLE.at } },
      },
    },
    errors: ['not_found'],
  },
  {
    ...common,
    id: 'addCredit',
    method: 'post',
    path: '/api/credits',
    summary: 'Top up a user or an organization',
    description: 'Idempotent by `id`.',
    bodies: [
      {
        schema: 'NewCredit',
        example: { id: EXAMPLE.credit, kilo_user_id: EXAMPLE.user, usd: '20' },
      },
    ],
    answers: {
      201: {
        description: 'Added; `duplicate`: it was before',
        body: {
          schema: 'Credit',
          example: {
            id: EXAMPLE.credit,
            status: 'recorded',
            kilo_user_id: EXAMPLE.user,
            organization_id: null,
            amount_microdollars: 20_000_000,
            description: null,
            expires_at: null,
            priority: 0,
            created_at: EXAMPLE.at,
            total_microdollars_acquired: 20_000_000,
          },
        },
      },
    },
    errors: ['unknown_user', 'unknown_organization', 'idempotency_conflict', 'out_of_range'],
  },
  {
    ...common,
    id: 'listCredits',
    method: 'get',
    path: '/api/credits',
    summary: 'List the credits of a user or an organization',
    description: 'With what is left of each grant, exact in one snapshot, and what expired.',
    search: creditPayer,
    answers: {
      200: {
        description: 'The newest first, up to a thousand',
        body: {
          schema: 'CreditList',
          example: {
            credits: [
              {
                id: EXAMPLE.credit,
                kind: 'credit',
                grant_id: null,
                kilo_user_id: EXAMPLE.user,
                organization_id: null,
                amount_microdollars: 20_000_000,
                description: null,
                expires_at: null,
                priority: 0,
                created_at: EXAMPLE.atMicros,
                grant: {
                  status: 'active',
                  left_microdollars: 19_998_750,
                  used_microdollars: 1250,
                  expired_microdollars: 0,
                },
              },
            ],
            has_more: false,
            next_expiry_at: null,
          },
        },
      },
    },
    errors: ['unknown_user', 'unknown_organization'],
  },
  {
    ...common,
    id: 'adjustUsage',
    method: 'post',
    path: '/api/adjustments',
    summary: 'Refund or correct a usage row',
    description:
      'A signed usage row that names the original. Refunds never pass what the request cost, unless forced.',
    bodies: [
      {
        schema: 'NewAdjustment',
        example: { usage_id: EXAMPLE.usage, usd: '-0.00025' },
      },
    ],
    answers: {
      201: {
        description: 'Recorded; `duplicate`: it was before',
        body: {
          schema: 'Adjustment',
          example: {
            id: '4be0643f-1d98-573b-97cd-ca98a65347dd',
            status: 'recorded',
            created_at: EXAMPLE.atMicros,
            new_microdollars_used: 1000,
            adjusts_usage_id: EXAMPLE.usage,
            kilo_user_id: EXAMPLE.user,
            organization_id: null,
            cost: -250,
          },
        },
      },
    },
    errors: ['unknown_usage', 'refund_exceeds_cost', 'idempotency_conflict'],
  },
];
