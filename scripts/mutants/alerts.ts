import type { Mutant } from './mutant.js';

const RAISE = 'src/alerts/raise.sql.ts';
const SPEND = 'src/alerts/raiseSpend.sql.ts';
const DELIVERIES = 'src/alerts/deliveries.sql.ts';
const SEND = 'src/alerts/send.ts';
const BESIDE = ['integration/alertsBeside'];
const RAISED = ['integration/alertRaise'];
const DELIVERED = ['integration/alertDelivery'];

/** What is told, and how often it is sent. */
export const ALERT_MUTANTS: readonly Mutant[] = [
  {
    name: 'alerts: a refund alone arms a balance again',
    file: RAISE,
    search: `
          and (e.limit_microdollars < b.limit_microdollars
            or \${hasCreditSince(scope, 'e.created_at')})`,
    replace: '',
    tests: RAISED,
  },
  {
    name: 'alerts: a delivery that its process dies of is tried for ever',
    file: DELIVERIES,
    search: '      and d.attempts < ${MAX_ATTEMPTS}\n',
    replace: '',
    tests: DELIVERED,
  },
  {
    name: 'alerts: what was taken back hides a top-up',
    file: RAISE,
    search: `
            or \${hasCreditSince(scope, 'e.created_at')})`,
    replace: ')',
    tests: BESIDE,
  },
  {
    name: 'alerts: the budget of an alert that is set may go away beside it',
    file: 'src/alerts/alerts.sql.ts',
    search: '  for share of b nowait\n',
    replace: '',
    tests: BESIDE,
  },
  {
    name: 'alerts: a webhook is added for who was deleted meanwhile',
    file: 'src/alerts/webhooks.sql.ts',
    search: "\n  and ${isNotDeleted('$1::text', '$2::text')}",
    replace: '',
    tests: BESIDE,
  },
  {
    name: 'alerts: what was in flight beside a deletion stays',
    file: 'src/accounts/softDelete.ts',
    search: '  await query(takeAwayStatement(kiloUserId));\n',
    replace: '',
    tests: BESIDE,
  },
  {
    name: 'alerts: a balance is never armed again',
    file: RAISE,
    search: 'where b.left_microdollars >= b.threshold\n      and exists',
    replace: 'where false and exists',
    tests: RAISED,
  },
  {
    name: 'alerts: windows that ended before the alert are told',
    file: RAISE,
    search: `
    and w.window_end > a.set_at`,
    replace: '',
    tests: RAISED,
  },
  {
    name: 'alerts: a budget of nothing is crossed by nothing',
    file: RAISE,
    search: 'where w.spent_microdollars > 0\n    and',
    replace: 'where',
    tests: RAISED,
  },
  {
    name: 'alerts: of a fold only the first window is looked at',
    file: 'src/alerts/raise.ts',
    search: 'folded.map((row) => row.window_id)',
    replace: 'folded.map((row) => row.window_id).slice(0, 1)',
    tests: RAISED,
  },
  {
    name: 'alerts: raised after the commit of the fold',
    file: 'src/budgets/folder.ts',
    search: `
    if (rows[0]?.has_alerts) await this.#options.onSettled(query, scope, id, rows);`,
    replace: `
    if (rows[0]?.has_alerts) {
      await query({ name: 'early_commit', text: 'commit', values: [] });
      await this.#options.onSettled(query, scope, id, rows);
    }`,
    tests: ['integration/holdContention'],
  },
  {
    name: 'alerts: what the budgets have not counted is in the spend of an hour',
    file: SPEND,
    search: `
      - \${costOf('budget_tail', 'created_at', 'h.hour_start', 'h.hour_end')}`,
    replace: '',
    tests: RAISED,
  },
  {
    name: 'alerts: what the rollup has not is not in the spend of an hour',
    file: SPEND,
    search: " + ${costOf('rollup_tail', 'created_at', from, until)}`",
    replace: '`',
    tests: RAISED,
  },
  {
    name: 'alerts: the usual is of the hours with usage',
    file: SPEND,
    search: '${SPEND_DAYS * 24}',
    replace: '3',
    tests: RAISED,
  },
  {
    name: 'alerts: a delivery under lease is claimed',
    file: DELIVERIES,
    search: `
      and (d.leased_until is null or d.leased_until <= now())
    order by`,
    replace: `
    order by`,
    tests: DELIVERED,
  },
  {
    name: 'alerts: webhooks that fail have all places',
    file: DELIVERIES,
    search: 'or c.place <= $2::integer',
    replace: 'or c.place <= $2::integer + $1::integer',
    tests: DELIVERED,
  },
  {
    name: 'alerts: a dead letter keeps its tries when it is replayed',
    file: 'src/alerts/listDeliveries.sql.ts',
    search: `
  attempts = 0,`,
    replace: '',
    tests: DELIVERED,
  },
  {
    name: 'alerts: signed with the new secret alone during a rotation',
    file: 'src/alerts/deliverer.ts',
    search: '[row.secret, ...(row.previous_secret === null ? [] : [row.previous_secret])]',
    replace: '[row.secret]',
    tests: DELIVERED,
  },
  {
    name: 'alerts: a name is looked up without being looked at',
    file: 'src/alerts/address.ts',
    search: 'allowsPrivate ? lookup(hostname) : lookUpPublic(hostname, lookup)',
    replace: 'lookup(hostname)',
    tests: ['unit/alerts/address'],
  },
  {
    name: 'alerts: an answer is read to its end',
    file: SEND,
    search: 'if (bytes > MAX_ANSWER_BYTES) end();',
    replace: '',
    tests: DELIVERED,
  },
];
