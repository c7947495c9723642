import type { Mutant } from './mutant.js';

const RESERVE = 'src/budgets/reserve.sql.ts';
const FOLD = 'src/budgets/fold.sql.ts';
const WINDOWS = 'src/budgets/openWindows.sql.ts';
const LANE = 'src/budgets/lane.ts';

/** Holds and budgets. */
export const HOLD_MUTANTS: readonly Mutant[] = [
  {
    name: 'holds: reserve, a hold is inserted though a window did not give',
    file: RESERVE,
    search: 'join verdict as v on v.n = r.n and v.fits\n  order by r.id',
    replace: 'join verdict as v on v.n = r.n\n  order by r.id',
    tests: ['integration/holds'],
  },
  {
    name: 'holds: reserve, what others reserved from the window together is not seen',
    file: RESERVE,
    search: 'sum(r.amount) over (partition by b.window_id order by r.n) as running',
    replace: 'r.amount as running',
    tests: ['integration/holdContention'],
  },
  {
    name: 'holds: reserve, a debt does not stop',
    file: RESERVE,
    search: '  where d.carry >= 0\n',
    replace: '',
    tests: ['integration/holdSteps'],
  },
  {
    name: 'holds: reserve, a limit that was lowered is not looked at',
    file: RESERVE,
    search: "\n      + ${lowered(limitOf(scope, 'b'), 'w.limit_microdollars')} as carry",
    replace: ' as carry',
    tests: ['integration/loweredLimits'],
  },
  {
    name: 'holds: extend, a raise that has ended is not looked at',
    file: 'src/budgets/hold.sql.ts',
    search: "then ${lowered(LIMIT_NOW, 'w.limit_microdollars')}",
    replace: 'then 0',
    tests: ['integration/loweredLimits'],
  },
  {
    name: 'holds: fold, what a hold kept is not given back',
    file: FOLD,
    search: 'h.carry + h.limit_now - h.limit_before + h.returned - h.newly_spent',
    replace: 'h.carry + h.limit_now - h.limit_before - h.newly_spent',
    tests: ['integration/holds'],
  },
  {
    name: 'holds: fold, a hold is taken away before its usage is counted',
    file: FOLD,
    search: "join microdollar_usage as m on m.id = h.id and ${isCounted('k')}",
    replace: 'join microdollar_usage as m on m.id = h.id',
    tests: ['integration/holdSteps'],
  },
  {
    name: 'holds: fold, a changed limit is not in the pool',
    file: FOLD,
    search: 'h.carry + h.limit_now - h.limit_before + h.returned',
    replace: 'h.carry + h.returned',
    tests: ['integration/holds'],
  },
  {
    name: 'holds: windows, what the mark has not passed is summed as well',
    file: WINDOWS,
    search: '        and ${isCounted(mark)}\n',
    replace: '',
    tests: ['integration/holdSteps'],
  },
  {
    name: 'holds: lane, refused by a fold that had not every slot',
    file: LANE,
    search: 'isWhole: window.slots >= SLOTS',
    replace: 'isWhole: true',
    tests: ['integration/holdSteps'],
  },
];
