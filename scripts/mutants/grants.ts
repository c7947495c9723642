import type { Mutant } from './mutant.js';

const SETTLEMENT = 'src/accounts/grants/settlement.ts';
const WATERFALL = 'src/accounts/grants/waterfall.ts';
const EXPIRER = 'src/accounts/grants/expirer.ts';
const SQL = 'src/accounts/grants/grants.sql.ts';

/** Grants: what is left of them, and their expiry. */
export const GRANT_MUTANTS: readonly Mutant[] = [
  {
    name: 'grants: usage after the expiry is paid by the grant until the row is there',
    file: SETTLEMENT,
    search: 'state.used - late - each.usedSince',
    replace: 'state.used - late',
    tests: ['integration/grants'],
  },
  {
    name: 'grants: what is held expires',
    file: SETTLEMENT,
    search: 'clamp(each.held - kept, rest)',
    replace: '0n',
    tests: ['integration/grantSteps'],
  },
  {
    name: 'grants: more is withdrawn than is there beside holds',
    file: SETTLEMENT,
    search: 'room !== null && wanted > 0n ? clamp(room, wanted) : wanted',
    replace: 'wanted',
    tests: ['integration/grantSteps'],
  },
  {
    name: 'grants: two that expired pay the same late usage',
    file: SETTLEMENT,
    search: 'clamp(lateBefore - late, each.left)',
    replace: 'clamp(lateBefore, each.left)',
    tests: ['unit/grants'],
  },
  {
    name: 'grants: late usage that a look has counted is forgotten',
    file: SETTLEMENT,
    search: 'lateBefore = each.lateBefore + each.usedLate;',
    replace: 'lateBefore = each.usedLate;',
    tests: ['integration/archiveBeside'],
  },
  {
    name: 'grants: late usage is corrected for ever',
    file: SETTLEMENT,
    search: 'isClosed: isOver && missing === 0n',
    replace: 'isClosed: false',
    tests: ['integration/grants'],
  },
  {
    name: 'grants: priority is not looked at',
    file: WATERFALL,
    search: 'a.priority - b.priority ||',
    replace: '',
    tests: ['property/grants'],
  },
  {
    name: 'grants: a refund revives what expired',
    file: WATERFALL,
    search: 'this.lots.filter(({ hasExpired }) => !hasExpired)',
    replace: 'this.lots.slice()',
    tests: ['property/grants'],
  },
  {
    name: 'grants: a debt is not paid by the next grant',
    file: WATERFALL,
    search: 'const taken = min(this.debt, entry.amount);',
    replace: 'const taken = 0n;',
    tests: ['property/grants'],
  },
  {
    name: 'grants: an expiry goes on without the lock of the payer',
    file: EXPIRER,
    search: `if (locked.length === 0) return 'busy';`,
    replace: '',
    tests: ['integration/grantSteps'],
  },
  {
    name: 'grants: an expiry does not wait for what slots have',
    file: EXPIRER,
    search: 'settlement = settleExpiries(state, available);',
    replace: '',
    tests: ['integration/grantSteps'],
  },
  {
    name: 'grants: usage of the time after the expiry is late usage',
    file: SQL,
    search: `where m.created_at < e.expires_at
      ) else 0 end)::text,`,
    replace: `where true
      ) else 0 end)::text,`,
    tests: ['property/grants'],
  },
  {
    name: 'grants: a grant pays what was used before it was there',
    file: 'src/accounts/credits.sql.ts',
    search: 'String(used),',
    replace: 'null,',
    tests: ['property/grants'],
  },
];
