import type { Statement } from './statement.js';

/**
 * The heartbeat of a process that has intents or holds (schema/gatewayIntents.ts); of a gateway also the
 * probe whether the primary takes writes.
 */
export function beatStatement(owner: string, host: string, pid: number): Statement {
  return {
    name: 'microdollar_beat',
    text: `/* microdollar.beat */
insert into gateway_instances (owner, host, pid)
values ($1::uuid, $2::text, $3::integer)
on conflict (owner) do update
set beat = gateway_instances.beat + 1,
  seen_at = now()`,
    values: [owner, host, pid],
  };
}
