import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { HOT, PEOPLE } from './cast.js';
import { repeat, type Work } from './work.js';

const HOLDERS = 3;

/** What strangers hold while everybody writes: nobody waits for it but themselves (I4). */
const HOLDS = [
  `select from kilocode_users where id = $1 for update`,
  `select from kilocode_users where id = $1 for key share`,
  `select from microdollar_usage_daily where kilo_user_id = $1 for update`,
  `select from microdollar_usage_daily where kilo_user_id = $1 for share`,
  `select from exa_monthly_usage where kilo_user_id = $1 for update`,
  `select pg_current_xact_id(), $1::text`,
  `update organizations set name = $1`,
] as const;

/** Sessions that hold rows of payers and counters, or only a transaction id, for a while. */
export async function runHolders(work: Work): Promise<void> {
  const { random } = work;
  const step = async () => {
    const client = new pg.Client({ connectionString: work.url, application_name: 'a holder' });
    client.on('error', () => {});
    try {
      await client.connect();
      await client.query(`set lock_timeout = '3s'`);
      await client.query('begin');
      await client.query(random.pick(HOLDS), [random.next() < 0.5 ? HOT : random.pick(PEOPLE)]);
      await sleep(random.next() < 0.1 ? 2_000 : random.between(0, 300));
      await client.query(random.next() < 0.5 ? 'commit' : 'rollback');
      await sleep(random.between(0, 100));
    } finally {
      await client.end().catch(() => {});
    }
  };
  await Promise.all(Array.from({ length: HOLDERS }, () => repeat(work, 'holder', step)));
}
