/** A CommonJS program: Node.js loads the package's ES modules by `require` from 20.19 on. */
const library = require('microdollar');
const { microdollarUsage } = require('microdollar/schema');
const { meteredFetch } = require('microdollar/sdk');
const { startEmbeddedPostgres } = require('microdollar/testing');

const functions = [library.createLedger, library.migrate, meteredFetch, startEmbeddedPostgres];
if (!functions.every((each) => typeof each === 'function')) throw new Error('a part is missing');
if (!('kilo_user_id' in microdollarUsage)) throw new Error('the schema is not whole');

async function main() {
  const ledger = await library.createLedger({ databaseUrl: process.env.DATABASE_URL });
  const answer = await ledger.recordUsage({ kilo_user_id: 'ada', cost: 1 });
  await ledger.close();
  console.log(JSON.stringify({ status: answer.status }));
}

main();
