import { unknownOrganization, unknownUser } from '../accounts/fields.js';
import type { Query } from '../db/query.js';
import { queryOnPool } from '../db/query.js';
import { elsewhere } from '../errors.js';
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
 * Whether the payer is on this shard: asked after a read, on the same server, it proves that what was read
 * was whole, for a payer that has left does not come back unseen.
 * @throws LedgerError `unknown_user`, `unknown_organization`
 */
export async function requireHere(ledger: Ledger, payer: NamedPayer): Promise<void> {
  const { kilo_user_id = null, organization_id = null } = payer;
  const query: Query = queryOnPool(ledger.readPool, !ledger.viaPooler);
  const statement =
    organization_id === null
      ? { ...OF_USER, values: [kilo_user_id] }
      : { ...OF_ORGANIZATION, values: [organization_id] };
  const [row] = await query<{ is_elsewhere: boolean }>(statement);
  if (row === undefined) throw organization_id === null ? unknownUser() : unknownOrganization();
  if (row.is_elsewhere) throw elsewhere(organization_id === null ? 'user' : 'organization');
}
