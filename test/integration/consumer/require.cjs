/**
 * A CommonJS program, as a test of a host application: Node.js loads the package's ES modules by `require`
 * from 20.19 on, and the database is one of its own.
 */
const { createLedger, createUser } = require('microdollar');
const { microdollarUsage } = require('microdollar/schema');
const { meteredFetch } = require('microdollar/sdk');
const { startEmbeddedPostgres } = require('microdollar/testing');

async function main() {
  const server = await startEmbeddedPostgres();
  const ledger = await createLedger({ databaseUrl: server.url });
  await createUser(ledger.pool, { id: 'ada' });
  const { status } = await ledger.recordUsage({ kilo_user_id: 'ada', cost: 1 });
  await ledger.close();
  await server.stop();
  const parts = [typeof meteredFetch, 'kilo_user_id' in microdollarUsage];
  console.log(JSON.stringify({ status, parts }));
}

main();
