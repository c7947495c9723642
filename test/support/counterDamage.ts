/** What is planted, SQL with a counter row's id as $1, and what a comparison with raw usage says of it. */
export type CounterDamage = [planted: string, sql: string, kinds: string[]];

/** Damage that any rollup by dimension may have. */
export const counterDamage = (table: string): CounterDamage[] => [
  ['a sum was changed', `update ${table} set cost_microdollars = 93 where id = $1`, ['wrong']],
  ['a row was deleted', `delete from ${table} where id = $1`, ['missing']],
  [
    'an id was changed',
    `update ${table} set id = gen_random_uuid() where id = $1`,
    ['missing', 'orphan'],
  ],
  [
    'a row was moved to another day',
    `update ${table} set period_start = period_start - interval '2 days' where id = $1`,
    ['missing', 'orphan'],
  ],
  [
    'a mark was lowered',
    `update rollup_marks set settled_below = 0 where rollup = '${table}'
      and payer_id = (select kilo_user_id from ${table} where id = $1)`,
    ['orphan'],
  ],
];
