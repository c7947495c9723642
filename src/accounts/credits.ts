import type pg from 'pg';
import { LedgerError } from '../errors.js';
import { readUuid } from '../ids.js';
import { toSafeInteger } from '../money.js';
import {
  invalidField,
  readOptionalText,
  readText,
  readUsd,
  unknownOrganization,
  unknownUser,
} from './fields.js';
import { runStatement } from './runStatement.js';

export interface NewCredit {
  /** Makes a retry safe: the same again is a `duplicate` and moves nothing. */
  id?: string | null | undefined;
  /** Exactly one of user, organization. */
  kilo_user_id?: string | null | undefined;
  organization_id?: string | null | undefined;
  /** Rounded once to the microdollar; negative takes back. */
  usd: string | number;
  description?: string | null | undefined;
}

export interface Credit {
  id: string;
  status: 'recorded' | 'duplicate';
  kilo_user_id: string | null;
  organization_id: string | null;
  amount_microdollars: number;
  description: string | null;
  /** ISO 8601; of a duplicate the first one's. */
  created_at: string;
  /** Of the payer, now. */
  total_microdollars_acquired: number;
}

interface CreditRow {
  is_payer: boolean;
  id: string | null;
  created_at: Date | null;
  total_microdollars_acquired: string | null;
}

/** The payer's total and the transaction that explains it, in one statement. */
function creditText(label: string, table: string, payerType: string, payerColumn: string): string {
  return `/* ${label} */
    with payer as (
      select exists (select from ${table} where id = $2::${payerType}) as is_payer
    ), credited as (
      update ${table}
      set total_microdollars_acquired = total_microdollars_acquired + $3::bigint,
        updated_at = now()
      where id = $2
        and abs(total_microdollars_acquired + $3) <= ${Number.MAX_SAFE_INTEGER}
      returning total_microdollars_acquired
    ), created as (
      insert into credit_transactions (id, ${payerColumn}, amount_microdollars, description)
      select coalesce($1::uuid, gen_random_uuid()), $2, $3, $4::text
      from credited
      returning id, created_at
    )
    select payer.is_payer, created.id, created.created_at, credited.total_microdollars_acquired
    from payer
    left join credited on true
    left join created on true`;
}

const CREDIT_USER = creditText('accounts.creditUser', 'kilocode_users', 'text', 'kilo_user_id');
const CREDIT_ORGANIZATION = creditText(
  'accounts.creditOrganization',
  'organizations',
  'uuid',
  'organization_id',
);

/**
 * Top-up of a user or an organization. The same id with the same payer and amount again adds nothing.
 * @throws LedgerError `invalid_request`, `unknown_user`, `unknown_organization`,
 *   `idempotency_conflict`, `out_of_range`
 */
export async function addCredit(pool: pg.Pool, credit: NewCredit): Promise<Credit> {
  const kiloUserId = credit.kilo_user_id ?? null;
  const organizationId = credit.organization_id ?? null;
  if ((kiloUserId === null) === (organizationId === null)) {
    throw invalidField('kilo_user_id', 'or organization_id: name exactly one of the two');
  }
  const amountMicrodollars = readUsd(credit.usd);
  const description = readOptionalText('description', credit.description);
  const id = credit.id == null ? null : readUuid('id', credit.id);
  const payer =
    organizationId === null
      ? readText('kilo_user_id', kiloUserId ?? '')
      : readUuid('organization_id', organizationId);
  let row: CreditRow | undefined;
  try {
    [row] = await runStatement<CreditRow>(
      pool,
      organizationId === null ? CREDIT_USER : CREDIT_ORGANIZATION,
      [id, payer, amountMicrodollars, description],
      'a credit with this id exists',
    );
  } catch (error) {
    if (!(error instanceof LedgerError) || error.code !== 'already_exists') throw error;
    return await readDuplicate(pool, id as string, payer, amountMicrodollars);
  }
  if (!row?.is_payer) {
    if (organizationId === null) throw unknownUser();
    throw unknownOrganization();
  }
  if (row.id === null || row.created_at === null || row.total_microdollars_acquired === null) {
    throw new LedgerError('out_of_range', 'the total acquired would leave the safe integer range');
  }
  return {
    id: row.id,
    status: 'recorded',
    kilo_user_id: kiloUserId,
    organization_id: organizationId?.toLowerCase() ?? null,
    amount_microdollars: amountMicrodollars,
    description,
    created_at: row.created_at.toISOString(),
    total_microdollars_acquired: toSafeInteger(row.total_microdollars_acquired),
  };
}

interface StoredCreditRow {
  kilo_user_id: string | null;
  organization_id: string | null;
  amount_microdollars: string;
  description: string | null;
  created_at: Date;
  total_microdollars_acquired: string;
}

/** The credit that has this id. @throws LedgerError `idempotency_conflict`: it is another one */
async function readDuplicate(
  pool: pg.Pool,
  id: string,
  payer: string,
  amountMicrodollars: number,
): Promise<Credit> {
  const [row] = await runStatement<StoredCreditRow>(
    pool,
    `/* accounts.readCredit */
    select c.kilo_user_id, c.organization_id, c.amount_microdollars, c.description, c.created_at,
      coalesce(u.total_microdollars_acquired, o.total_microdollars_acquired, 0)
        as total_microdollars_acquired
    from credit_transactions as c
    left join kilocode_users as u on u.id = c.kilo_user_id
    left join organizations as o on o.id = c.organization_id
    where c.id = $1::uuid`,
    [id],
  );
  const isSame =
    row !== undefined &&
    (row.organization_id ?? row.kilo_user_id) === payer &&
    Number(row.amount_microdollars) === amountMicrodollars;
  if (!isSame) {
    throw new LedgerError('idempotency_conflict', 'id names a credit of another payer or amount', {
      details: { field: 'id' },
    });
  }
  return {
    id,
    status: 'duplicate',
    kilo_user_id: row.kilo_user_id,
    organization_id: row.organization_id,
    amount_microdollars: amountMicrodollars,
    description: row.description,
    created_at: row.created_at.toISOString(),
    total_microdollars_acquired: toSafeInteger(row.total_microdollars_acquired),
  };
}
