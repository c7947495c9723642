import type pg from 'pg';

export interface Asked {
  text: string;
  values: unknown[];
}

/** Statements of the pool's callers meanwhile, but for the follower of the read mode. */
export async function statementsDuring(pool: pg.Pool, work: () => Promise<void>): Promise<Asked[]> {
  const asked: Asked[] = [];
  const query = pool.query;
  pool.query = function listen(this: pg.Pool, ...args: unknown[]) {
    const [first, second] = args as [string | Asked, unknown[] | undefined];
    const statement =
      typeof first === 'string' ? { text: first, values: second ?? [] } : { ...first };
    statement.values ??= second ?? [];
    if (!statement.text.includes('/* microdollar.')) asked.push(statement);
    return Reflect.apply(query, this, args);
  } as typeof pool.query;
  try {
    await work();
  } finally {
    pool.query = query;
  }
  return asked;
}
