import type { ApproachDefinition } from '../approach.js';
import {
  CONNECTIONS,
  COST,
  dropGuards,
  eventStatement,
  ORGANIZATION,
  openPool,
  USER,
  valuesWithLookups,
  WRITE_ROWS,
  WRITE_ROWS_AND_LOOKUPS,
} from './statements.js';
import { ledgerDifferences } from './totals.js';

/**
 * The seed's statement: usage, metadata, an upsert of the daily row and the payer's balance, in
 * one. CTEs in reading order: usage_written, metadata_written, daily_written; then the balance.
 * Two texts, for an upsert names one of the two partial indexes.
 */
const seedText = (
  rows: string,
  conflictTarget: string,
  updateBalance: string,
): string => `/* seed */
with ${rows}, daily_written as (
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

const personal = (rows: string): string =>
  seedText(
    rows,
    '(kilo_user_id, usage_date) where organization_id is null',
    `update kilocode_users as u
set microdollars_used = u.microdollars_used + ${COST}
where u.id = ${USER}
returning u.microdollars_used as new_microdollars_used`,
  );

const forOrganization = (rows: string): string =>
  seedText(
    rows,
    '(kilo_user_id, organization_id, usage_date) where organization_id is not null',
    `update organizations as o
set microdollars_used = o.microdollars_used + ${COST}
where o.id = ${ORGANIZATION}
returning o.microdollars_used as new_microdollars_used`,
  );

const PERSONAL = personal(WRITE_ROWS);
const FOR_ORGANIZATION = forOrganization(WRITE_ROWS);
const PERSONAL_AND_LOOKUPS = personal(WRITE_ROWS_AND_LOOKUPS);
const FOR_ORGANIZATION_AND_LOOKUPS = forOrganization(WRITE_ROWS_AND_LOOKUPS);

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

/** As it was written: it also finds the ids of its lookup values, on every call. */
export const seedWithLookups: ApproachDefinition = {
  ...seed,
  name: 'seed-lookups',
  label: "the seed's statement, with its lookups",
  async open({ url, admin }) {
    await dropGuards(admin);
    const pool = openPool(url);
    return {
      async write([event]) {
        if (!event) return;
        const values = valuesWithLookups(event);
        if (event.organization_id) {
          const text = FOR_ORGANIZATION_AND_LOOKUPS;
          await pool.query({ name: 'seed_lookups_organization', text, values });
        } else {
          await pool.query({ name: 'seed_lookups', text: PERSONAL_AND_LOOKUPS, values });
        }
      },
      differences: () => ledgerDifferences(admin),
      close: () => pool.end(),
    };
  },
};
