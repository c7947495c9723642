import type pg from 'pg';
import { unknownOrganization, unknownUser } from '../accounts/fields.js';
import { type Query, queryOnPool } from '../db/query.js';
import { elsewhere } from '../errors.js';
import { isUuid } from '../ids.js';
import type { Ledger, NamedPayer } from '../ledgerTypes.js';

const OF_USER = {
  name: 'microdollar_shard_standing_user',
  text: `/* shards.standing user */
select u.is_elsewhere from kilocode_users as u where u.id = $1::text`,
};
const OF_ORGANIZATION = {
  name: 'microdollar_shard_standing_organization',
  text: `/* shards.standing organization */
select o.is_elsewhere from organizations as o where o.id = $1::uuid`,
};

/**
 * Whether the payer is on this shard: asked after a read, on the servers that it may have been asked of, it
 * proves that what was read was whole, for a payer that has left does not come back unseen.
 * @throws LedgerError `unknown_user`, `unknown_organization`
 */
export async function requireHere(ledger: Ledger, payer: NamedPayer): Promise<void> {
  const { pool, readPool } = ledger;
  const pools = pool === readPool ? [pool] : [pool, readPool];
  await Promise.all(pools.map((each) => requireOn(each, payer, !ledger.viaPooler)));
}

async function requireOn(
  pool: pg.Pool,
  { kilo_user_id = null, organization_id = null }: NamedPayer,
  isNamed: boolean,
): Promise<void> {
  const unknown = organization_id === null ? unknownUser : unknownOrganization;
  if (organization_id !== null && !isUuid(organization_id)) throw unknown();
  const query: Query = queryOnPool(pool, isNamed);
  const statement =
    organization_id === null
      ? { ...OF_USER, values: [kilo_user_id] }
      : { ...OF_ORGANIZATION, values: [organization_id] };
  const [row] = await query<{ is_elsewhere: boolean }>(statement);
  if (row === undefined) throw unknown();
  if (row.is_elsewhere) throw elsewhere(organization_id === null ? 'user' : 'organization');
}
