import type { Mutant } from './mutant.js';

const ROUTER = 'src/shards/router.ts';

/** Several ledgers as one: who is where, who is refused, what one that is away takes down. */
export const SHARD_MUTANTS: readonly Mutant[] = [
  {
    name: 'shards: an organization that is elsewhere is written to',
    file: 'src/record/appendUsage.sql.ts',
    search: `[\`not \${options.isOrganization ? 'o' : 'u'}.is_elsewhere\`]`,
    replace: `[\`not u.is_elsewhere\`]`,
    tests: ['integration/shardElsewhere'],
  },
  {
    name: 'shards: a batch writes to a user who is elsewhere',
    file: 'src/record/appendBatch.sql.ts',
    search: 'and (e.organization_id is not null or not u.is_elsewhere))',
    replace: ')',
    tests: ['integration/shardElsewhere'],
  },
  {
    name: 'shards: a shard remembers its payers',
    file: 'src/record/recorder.ts',
    search: 'if (this.#options.isShard?.()) return false;\n',
    replace: '',
    tests: ['integration/shardElsewhere'],
  },
  {
    name: 'shards: a hold of a payer that has left is given back',
    file: 'src/budgets/hold.sql.ts',
    search: `and (\${isPayerElsewhere('h')}) is not true\n`,
    replace: '',
    tests: ['integration/shardElsewhere'],
  },
  {
    name: 'shards: a payer is made in a bucket that has left',
    file: 'src/schema/elsewhere.ts',
    search: `and (d.shard is distinct from s.shard_name or d.step = 'fenced'))`,
    replace: `and d.step = 'fenced')`,
    tests: ['integration/shardElsewhere', 'integration/shardRouting'],
  },
  {
    name: 'shards: what is read of a payer is not looked at again',
    file: 'src/shards/shardReads.ts',
    search: 'await requireHere(ledger, payer);\n',
    replace: '',
    tests: ['integration/shardRouting'],
  },
  {
    name: 'shards: a refusal is the answer, whatever the directory says',
    file: ROUTER,
    search: 'if (!isMisplaced(error)) throw error;\n      return await',
    replace: 'throw error;\n      return await',
    tests: ['integration/shardRouting'],
  },
  {
    name: 'shards: a payer on the way is not waited for',
    file: ROUTER,
    search: 'const FENCE_WAIT_MS = 2_000;',
    replace: 'const FENCE_WAIT_MS = 0;',
    tests: ['integration/shardRouting'],
  },
  {
    name: 'shards: who was made known meanwhile is refused',
    file: ROUTER,
    search: 'const MAX_TRIES = 3;',
    replace: 'const MAX_TRIES = 1;',
    tests: ['integration/shardRouting'],
  },
  {
    name: 'shards: who is unknown while home is away does not exist',
    file: ROUTER,
    search: `throw new LedgerError(
        'unavailable',
        \`\${refusal.message}; whether`,
    replace: `throw new LedgerError(
        refusal.code,
        \`\${refusal.message}; whether`,
    tests: ['faults/shardKill'],
  },
  {
    name: 'shards: who is made known is not looked at again',
    file: 'src/shards/introduce.ts',
    search: 'if (after.deleted_at !== null) await',
    replace: 'if (after.deleted_at === undefined) await',
    tests: ['integration/shardRouting'],
  },
  {
    name: 'shards: a soft delete stays on one of them',
    file: 'src/shards/accounts.ts',
    search: '.filter(({ ledger }) => ledger.pool !== ownPool)',
    replace: '.filter(({ ledger }) => ledger.pool === null)',
    tests: ['integration/shards'],
  },
  {
    name: 'shards: a group that a part hides is told apart',
    file: 'src/shards/mergeReports.ts',
    search: 'isWhole || groups.has(group)',
    replace: 'isWhole || groups.size > 0',
    tests: ['unit/shards'],
  },
  {
    name: 'shards: payers move when a shard is added',
    file: 'src/shards/registry.ts',
    search: 'await client.query(KEEP_BUCKETS,',
    replace: 'if (kept.length < 0) await client.query(KEEP_BUCKETS,',
    tests: ['integration/shards'],
  },
  {
    name: 'shards: usage of one that is away holds up the journal',
    file: 'src/gateway/durable/drain.ts',
    search: `if (refusal === UNANSWERED || isOfOne(refusal)) {`,
    replace: 'if (refusal === UNANSWERED) {',
    tests: ['faults/shardKill'],
  },
];
