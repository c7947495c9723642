import type pg from 'pg';

export async function repairForeignXids(
  client: pg.Client,
  _log: (message: string) => void,
): Promise<void> {
  await client.query(
    'update ledger_settings set system_identifier = (select system_identifier::text from pg_control_system()) where system_identifier is null',
  );
}
