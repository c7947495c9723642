/**
 * One process of the benchmark of holds: `holdWorker.ts <databaseUrl> <user> <callers>`. For each line
 * `<approach> <ms>` on stdin it holds in a closed loop and prints how many were granted.
 */
import { randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { createLedger } from '../../src/ledger.js';

const HOLD_OF_ONE_ROW = `with taken as (
  update payer_headroom set remaining = remaining - $3 where payer = $2 and remaining >= $3
  returning payer
)
insert into payer_holds (id, payer, amount)
select $1::uuid, t.payer, $3::bigint from taken as t
returning id`;

const AMOUNT = 100;

async function main(databaseUrl: string, user: string, callers: number): Promise<void> {
  const ledger = await createLedger({ databaseUrl });
  const pool = new pg.Pool({ connectionString: databaseUrl, max: callers });
  const approaches: Record<string, () => Promise<boolean>> = {
    'one-row': async () => {
      const values = [randomUUID(), user, AMOUNT];
      const held = await pool.query({ name: 'hold', text: HOLD_OF_ONE_ROW, values });
      return held.rowCount === 1;
    },
    slots: async () => {
      const held = await ledger.hold({ kilo_user_id: user, amount: AMOUNT });
      return held.status === 'granted';
    },
    'slots-settled': async () => {
      const held = await ledger.hold({ kilo_user_id: user, amount: AMOUNT });
      await ledger.settle(held.id, { kilo_user_id: user, cost: AMOUNT / 2 });
      return held.status === 'granted';
    },
  };
  console.log('ready');
  for await (const line of createInterface(process.stdin)) {
    const [name = '', ms] = line.split(' ');
    const until = performance.now() + Number(ms);
    let granted = 0;
    const call = async () => {
      while (performance.now() < until) if (await approaches[name]?.()) granted++;
    };
    await Promise.all(Array.from({ length: callers }, call));
    console.log(String(granted));
  }
  await ledger.close();
  await pool.end();
}

const [databaseUrl = '', user = '', callers] = process.argv.slice(2);
await main(databaseUrl, user, Number(callers));
