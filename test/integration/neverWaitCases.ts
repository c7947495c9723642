import { randomUUID } from 'node:crypto';
import { SEED_UPSERT } from '../support/seedUpsert.sql.js';

/** What another session does, and keeps open, while writes go on (I4). */
export const DAY = '2025-05-06';
export const AT = `${DAY}T07:08:09Z`;
const MONTH = '2025-05-01';

/** Payers of one test: what is held is the user's and the organization's; the other is beside. */
export interface Payers {
  user: string;
  neighbour: string;
  organization: string;
  lookupValue: string;
}

interface Held {
  name: string;
  /** What the payers have before: nothing, or rows of that day and month. */
  fresh?: boolean;
  statements: (payers: Payers) => [text: string, values: unknown[]][];
  /** Ways in which the transaction may end and leave an exact ledger. */
  ends?: readonly ('commit' | 'rollback')[];
}

const HELD: readonly Held[] = [
  {
    name: 'select ... for update of every counter row',
    statements: ({ user, neighbour, organization }) => [
      ['select from kilocode_users where id = any($1) for update', [[user, neighbour]]],
      ['select from organizations where id = $1 for update', [organization]],
      [
        'select from microdollar_usage_daily where kilo_user_id = any($1) for update',
        [[user, neighbour]],
      ],
      ['select from exa_monthly_usage where kilo_user_id = any($1) for update', [[user]]],
    ],
  },
  {
    name: 'select ... for share of the balance rows',
    statements: ({ user, organization }) => [
      ['select from kilocode_users where id = $1 for share', [user]],
      ['select from organizations where id = $1 for share', [organization]],
    ],
  },
  {
    name: 'select ... for key share of every counter row',
    statements: ({ user, organization }) => [
      ['select from kilocode_users where id = $1 for key share', [user]],
      ['select from organizations where id = $1 for key share', [organization]],
      ['select from microdollar_usage_daily where kilo_user_id = $1 for key share', [user]],
    ],
  },
  {
    name: 'an update of the user',
    statements: ({ user }) => [["update kilocode_users set name = 'n' where id = $1", [user]]],
  },
  {
    name: 'an update of the organization',
    statements: ({ organization }) => [
      ["update organizations set name = 'n' where id = $1", [organization]],
    ],
  },
  {
    name: 'an update of the daily rows',
    statements: ({ user }) => [
      ['update microdollar_usage_daily set updated_at = now() where kilo_user_id = $1', [user]],
    ],
  },
  {
    name: 'an update of the Exa month',
    statements: ({ user }) => [
      ['update exa_monthly_usage set updated_at = now() where kilo_user_id = $1', [user]],
    ],
  },
  {
    name: 'updates of all of them, as another write in place would',
    statements: ({ user }) => [[SEED_UPSERT, [randomUUID(), user, 23, AT]]],
  },
  {
    name: "the insert of the day's first row",
    fresh: true,
    statements: ({ user, organization }) => [
      [SEED_UPSERT, [randomUUID(), user, 23, AT]],
      [
        `insert into microdollar_usage_daily (kilo_user_id, organization_id, usage_date)
         values ($1, $2, $3)`,
        [user, organization, DAY],
      ],
    ],
  },
  {
    name: "the insert of the Exa month's first row",
    fresh: true,
    statements: ({ user }) => [
      [
        `insert into exa_monthly_usage (kilo_user_id, month, free_allowance_microdollars)
         values ($1, $2, 100)`,
        [user, MONTH],
      ],
    ],
  },
  {
    name: 'a daily row moved to the key by an update',
    fresh: true,
    statements: ({ user }) => [
      [
        `insert into microdollar_usage_daily (kilo_user_id, usage_date) values ($1, '2020-01-01')`,
        [`${user} of old`],
      ],
      [
        'update microdollar_usage_daily set kilo_user_id = $1, usage_date = $2 where kilo_user_id = $3',
        [user, DAY, `${user} of old`],
      ],
    ],
  },
  {
    name: 'an Exa month moved to the key by an update',
    fresh: true,
    statements: ({ user }) => [
      [
        `insert into exa_monthly_usage (kilo_user_id, month, free_allowance_microdollars)
         values ($1, '2020-01-01', 100)`,
        [`${user} of old`],
      ],
      [
        'update exa_monthly_usage set kilo_user_id = $1, month = $2 where kilo_user_id = $3',
        [user, MONTH, `${user} of old`],
      ],
    ],
  },
  {
    name: 'the insert of a lookup value',
    statements: ({ lookupValue }) => [
      ['insert into editor_name (editor_name) values ($1)', [lookupValue]],
    ],
  },
  {
    name: 'a lookup value renamed to the one needed',
    statements: ({ lookupValue }) => [
      ['insert into editor_name (editor_name) values ($1)', [`old ${lookupValue}`]],
      [
        'update editor_name set editor_name = $1 where editor_name = $2',
        [lookupValue, `old ${lookupValue}`],
      ],
    ],
  },
  {
    name: 'a soft delete',
    statements: ({ user }) => [
      ['update kilocode_users set deleted_at = now(), name = null where id = $1', [user]],
    ],
  },
  {
    name: 'a delete of the user and the organization',
    statements: ({ user, organization }) => [
      ['delete from kilocode_users where id = $1', [user]],
      ['delete from organizations where id = $1', [organization]],
    ],
    ends: ['rollback'],
  },
  {
    name: 'a delete of the daily rows and the Exa month',
    statements: ({ user }) => [
      ['delete from microdollar_usage_daily where kilo_user_id = $1', [user]],
      ['delete from exa_monthly_usage where kilo_user_id = $1', [user]],
    ],
    ends: ['rollback'],
  },
  {
    name: 'a daily row deleted and inserted again',
    statements: ({ user }) => [
      [
        `with gone as (
           delete from microdollar_usage_daily
           where kilo_user_id = $1 and organization_id is null
           returning kilo_user_id, usage_date, total_cost_microdollars
         )
         select kilo_user_id, usage_date, total_cost_microdollars from gone`,
        [user],
      ],
      [
        `insert into microdollar_usage_daily (kilo_user_id, usage_date, total_cost_microdollars)
         values ($1, $2, 1)`,
        [user, DAY],
      ],
    ],
  },
  {
    name: 'for update of the settings row',
    statements: () => [['select from ledger_settings for update', []]],
  },
];

export const CASES = HELD.flatMap((held) =>
  (held.ends ?? (['commit', 'rollback'] as const)).map((end) => ({ ...held, end })),
);
