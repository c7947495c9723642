import { expect } from 'vitest';
import { asAnswer, balanceOf, dailyTotals, type Payer } from './ledgerModel.js';
import type { Program } from './program.js';

const RANGE = { from: '2025-01-01', until: '9999-12-31' };

/**
 * Balances and days of every payer by the views, as any SQL client reads them; through the library
 * one of the reads, each in turn, or `all`.
 */
export async function compareReports(program: Program, how: 'all' | 'one' = 'one') {
  const reads = libraryReads(program);
  const asked = how === 'all' ? reads : [reads[program.comparisons++ % reads.length]];
  await Promise.all([compareViews(program), ...asked.map((read) => read?.())]);
}

/** Each balance, and each user's days in each scope. */
function libraryReads({ model, world, users, organization }: Program): (() => Promise<void>)[] {
  const [ledger] = world.writers;
  if (!ledger) throw new Error('no ledger');
  const compareDays = async (user: number, isOrganization: boolean) => {
    const days = await ledger.getDailyUsage({
      kilo_user_id: users[user] ?? '',
      organization_id: isOrganization ? organization : null,
      ...RANGE,
    });
    const reported = days.map((day) => [day.usage_date, day.total_cost_microdollars]);
    expect(reported).toEqual([...dailyTotals(model, user, isOrganization)]);
  };
  const compareBalance = async (balance: Promise<number | bigint | null>, payer: Payer) => {
    expect(await balance).toBe(asAnswer(balanceOf(model, payer)));
  };
  return [
    () => compareBalance(ledger.getOrganizationBalance(organization), 'organization'),
    ...users.flatMap((id, user) => [
      () => compareBalance(ledger.getUserBalance(id), user),
      () => compareDays(user, false),
      () => compareDays(user, true),
    ]),
  ];
}

const VIEWS = {
  name: 'compare_views',
  text: `select 'balance ' || b.kilo_user_id as key, b.microdollars_used as total
    from kilocode_user_balances as b
    where b.kilo_user_id = any ($1::text[])
      and b.kilo_user_id not in (select u.id from kilocode_users as u where u.is_elsewhere)
    union all
    select 'balance organization', b.microdollars_used
    from organization_balances as b
    where b.organization_id = $2::uuid
      and b.organization_id not in (select o.id from organizations as o where o.is_elsewhere)
    union all
    select e.kilo_user_id || '|' || (e.organization_id is not null) || '|' || e.usage_date,
      e.total_cost_microdollars
    from microdollar_usage_daily_exact as e
    where e.kilo_user_id = any ($1::text[])
      and e.total_cost_microdollars <> 0`,
};

async function compareViews({ model, world, users, organization }: Program) {
  const rows = await world.query<{ key: string; total: string }>({
    ...VIEWS,
    values: [users, organization],
  });
  const balances = users.map((id, user) => [`balance ${id}`, balanceOf(model, user)] as const);
  const days = users.flatMap((id, user) =>
    [false, true].flatMap((isOrganization) =>
      [...dailyTotals(model, user, isOrganization)].map(
        ([day, total]) => [`${id}|${isOrganization}|${day}`, BigInt(total)] as const,
      ),
    ),
  );
  const expected: (readonly [string, bigint])[] = [
    ...balances,
    ['balance organization', balanceOf(model, 'organization')],
    ...days,
  ];
  expect(new Map(rows.map(({ key, total }) => [key, BigInt(total)]))).toEqual(new Map(expected));
}

/** After a fold without writers the base tables alone are right. */
export async function compareBaseTables({ model, world, users, organization }: Program) {
  const balances = await world.query<{ id: string; used: string; acquired: number }>({
    name: 'base_balances',
    text: `select id, microdollars_used as used, total_microdollars_acquired::float8 as acquired
     from kilocode_users where id = any($1) and not is_elsewhere
     union all
     select id::text, microdollars_used, total_microdollars_acquired::float8
     from organizations where id = $2 and not is_elsewhere
     order by 1`,
    values: [users, organization],
  });
  const expected = [
    ...users.map((id, user) => ({
      id,
      used: String(balanceOf(model, user)),
      acquired: model.credits.get(String(user)) ?? 0,
    })),
    {
      id: organization,
      used: String(balanceOf(model, 'organization')),
      acquired: model.credits.get('organization') ?? 0,
    },
  ];
  const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
  expect(balances.toSorted(byId)).toEqual(expected.toSorted(byId));
  const rows = await world.query<Record<'usage' | 'exa' | 'unsettled' | 'personal', number>>({
    name: 'base_rows',
    text: `select (select count(*)::integer from microdollar_usage where kilo_user_id = any($1)) as usage,
       (select count(*)::integer from exa_usage_log where kilo_user_id = any($1)) as exa,
       (select count(*)::integer from microdollar_usage as m
       join kilocode_users as u on u.id = m.kilo_user_id
       where m.kilo_user_id = any($1) and m.organization_id is null
         and (m.position >= u.settled_below or m.position = any (u.settled_except))) as unsettled,
       (select count(*)::integer from microdollar_usage_metadata as m
       join kilocode_users as u on u.id = m.kilo_user_id
       where u.id = any($1) and u.deleted_at is not null
         and m.user_prompt_prefix is not null) as personal`,
    values: [users],
  });
  const sumOf = (column: keyof (typeof rows)[number]) =>
    rows.reduce((sum, row) => sum + row[column], 0);
  expect({
    usage: sumOf('usage'),
    exa: sumOf('exa'),
    unsettled: sumOf('unsettled'),
    personal: sumOf('personal'),
  }).toEqual({ usage: model.events.length, exa: model.exa.length, unsettled: 0, personal: 0 });
}
