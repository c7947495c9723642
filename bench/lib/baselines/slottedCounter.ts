import type { ApproachDefinition } from '../approach.js';
import {
  CONNECTIONS,
  COST,
  eventStatement,
  ORGANIZATION,
  openPool,
  USER,
  WRITE_ROWS,
} from './statements.js';
import { differencesFrom } from './totals.js';

const SLOTS = 16;

const TABLES = `
create table bench_daily_slots (
  kilo_user_id text not null,
  organization_id uuid,
  usage_date date not null,
  slot integer not null,
  total bigint not null,
  unique nulls not distinct (kilo_user_id, organization_id, usage_date, slot)
) with (fillfactor = 70);
create table bench_balance_slots (
  payer text not null,
  slot integer not null,
  total bigint not null,
  primary key (payer, slot)
) with (fillfactor = 70);`;

/** A total is the sum of its slots; the answer's balance is read in the statement's snapshot. */
const textOfSlot = (slot: number): string => `/* slotted counter */
with ${WRITE_ROWS}, daily_written as (
  insert into bench_daily_slots (kilo_user_id, organization_id, usage_date, slot, total)
  values (${USER}, ${ORGANIZATION}, (now() at time zone 'UTC')::date, ${slot}, ${COST})
  on conflict (kilo_user_id, organization_id, usage_date, slot)
  do update set total = bench_daily_slots.total + excluded.total
), balance_written as (
  insert into bench_balance_slots (payer, slot, total)
  values (coalesce(${ORGANIZATION}::text, ${USER}), ${slot}, ${COST})
  on conflict (payer, slot)
  do update set total = bench_balance_slots.total + excluded.total
)
select coalesce(sum(b.total), 0)::bigint + ${COST} as new_microdollars_used
from bench_balance_slots as b
where b.payer = coalesce(${ORGANIZATION}::text, ${USER})`;

const TEXTS = Array.from({ length: SLOTS }, (_, slot) => textOfSlot(slot));

export const slottedCounter: ApproachDefinition = {
  name: 'slotted-counter',
  label: `slotted counter, ${SLOTS} slots`,
  kind: 'alternative',
  caveat: `up to ${SLOTS} rows a total; writers of a slot still queue, also behind an idle transaction`,
  callers: CONNECTIONS,
  async open({ url, admin, lookups }) {
    await admin.query(TABLES);
    const pool = openPool(url);
    return {
      async write([event]) {
        if (!event) return;
        const slot = Math.floor(Math.random() * SLOTS);
        const text = TEXTS[slot] as string;
        await pool.query(eventStatement(`slotted_${slot}`, text, event, lookups));
      },
      differences: () =>
        differencesFrom(admin, {
          daily: 'select kilo_user_id, organization_id, usage_date, total from bench_daily_slots',
          balances: 'select payer, total from bench_balance_slots',
        }),
      close: () => pool.end(),
    };
  },
};
