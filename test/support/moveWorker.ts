/**
 * A process that moves a user: `moveWorker.ts <user> <to> <url of a> <url of b> [point [silent ms]]`, in
 * small pages. Prints every point once it is reached, and stays at the one that is named; else the report
 * as one line of JSON.
 */
import { once } from 'node:events';
import { Moves } from '../../src/shards/move/moves.js';
import { openPool } from './openPool.js';

const [user = '', to = '', a = '', b = '', stayAt = '', silentMs] = process.argv.slice(2);
const pools = [a, b].map((connectionString) => openPool({ connectionString, max: 4 }));
const [first, second] = pools;
if (!first || !second) throw new Error('two shards are needed');
const moves = new Moves({
  shards: [
    { name: 'a', pool: first },
    { name: 'b', pool: second },
  ],
  ...(silentMs && { silentMs: Number(silentMs) }),
});
const report = await moves.move({ kilo_user_id: user }, to, {
  pageRows: 20,
  onPoint: async (point) => {
    process.stdout.write(`${point}\n`);
    // To be killed there, however late that comes, or told to go on.
    if (point === stayAt) await once(process.stdin, 'data');
  },
});
await Promise.all(pools.map((pool) => pool.end()));
process.stdout.write(`${JSON.stringify(report)}\n`);
