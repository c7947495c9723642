import type { ApproachDefinition } from '../approach.js';
import {
  CONNECTIONS,
  COST,
  dropGuards,
  eventStatement,
  ORGANIZATION,
  openPool,
  USER,
  WRITE_ROWS,
} from './statements.js';
import { ledgerDifferences } from './totals.js';

/**
 * The seed's statement: usage, metadata, an upsert of the daily row and the payer's balance, in
 * one. CTEs in reading order: usage_written, metadata_written, daily_written; then the balance.
 * Two texts, for an upsert names one of the two partial indexes.
 */
const seedText = (conflictTarget: string, updateBalance: string): string => `/* seed */
with ${WRITE_ROWS}, daily_written as (
  insert into microdollar_usage_daily
    (kilo_user_id, organization_id, usage_date, total_cost_microdollars)
  select ${USER}, ${ORGANIZATION}, (now() at time zone 'UTC')::date, ${COST}
  where ${COST} <> 0
  on conflict ${conflictTarget}
  do update set
    total_cost_microdollars =
      microdollar_usage_daily.total_cost_microdollars + excluded.total_cost_microdollars,
    updated_at = now()
)
${updateBalance}`;

const PERSONAL = seedText(
  '(kilo_user_id, usage_date) where organization_id is null',
  `update kilocode_users as u
set microdollars_used = u.microdollars_used + ${COST}
where u.id = ${USER}
returning u.microdollars_used as new_microdollars_used`,
);

const FOR_ORGANIZATION = seedText(
  '(kilo_user_id, organization_id, usage_date) where organization_id is not null',
  `update organizations as o
set microdollars_used = o.microdollars_used + ${COST}
where o.id = ${ORGANIZATION}
returning o.microdollars_used as new_microdollars_used`,
);

export function seedStatementText(organizationId: string | null | undefined): {
  name: string;
  text: string;
} {
  return organizationId
    ? { name: 'seed_organization', text: FOR_ORGANIZATION }
    : { name: 'seed_personal', text: PERSONAL };
}

export const seed: ApproachDefinition = {
  name: 'seed',
  label: "the seed's statement",
  kind: 'alternative',
  caveat: 'writers of one user queue on its rows',
  callers: CONNECTIONS,
  async open({ url, admin, lookups }) {
    await dropGuards(admin);
    const pool = openPool(url);
    return {
      async write([event]) {
        if (!event) return;
        const { name, text } = seedStatementText(event.organization_id);
        await pool.query(eventStatement(name, text, event, lookups));
      },
      differences: () => ledgerDifferences(admin),
      close: () => pool.end(),
    };
  },
};
