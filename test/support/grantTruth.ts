/** A row of `GRANT_SOURCES`. */
export interface GrantSources {
  payer_scope: string;
  payer_id: string;
  acquired: string;
  used: string;
  entries: {
    id: string;
    kind: string;
    grant_id: string | null;
    amount: string;
    used: string | null;
  }[];
  /** Ids of grants as they are used. */
  grant_order: string[];
  expiries: { grant_id: string; left: string | null; late: string }[];
}

/** Amounts of the grants in force, in the order in which they are used. */
interface Line {
  left: Map<string, bigint>;
  spent: Map<string, bigint>;
  loose: bigint;
  debt: bigint;
}

const between = (low: bigint, value: bigint, high: bigint) =>
  value < low ? low : value > high ? high : value;

/** How much of each of `parts`, one after the other, an amount reaches; and how much is beyond them. */
function reach(parts: readonly (readonly [string, bigint])[], amount: bigint) {
  let before = 0n;
  const reached = parts.map(([id, size]) => {
    const part = between(0n, amount - before, size);
    before += size;
    return [id, part] as const;
  });
  return { reached, beyond: between(0n, amount - before, amount) };
}

function move(from: Line, change: bigint): Line {
  const left = new Map(from.left);
  const spent = new Map(from.spent);
  const shift = (id: string, part: bigint) => {
    left.set(id, (left.get(id) ?? 0n) - part);
    spent.set(id, (spent.get(id) ?? 0n) + part);
  };
  if (change >= 0n) {
    const forth = reach([...from.left, ['loose', from.loose]], change);
    for (const [id, part] of forth.reached) if (id !== 'loose') shift(id, part);
    const loose = forth.reached.at(-1)?.[1] ?? 0n;
    return { left, spent, loose: from.loose - loose, debt: from.debt + forth.beyond };
  }
  const back = reach([['debt', from.debt], ...[...from.spent].reverse()], -change);
  for (const [id, part] of back.reached) if (id !== 'debt') shift(id, -part);
  const debt = back.reached[0]?.[1] ?? 0n;
  return { left, spent, loose: from.loose + back.beyond, debt: from.debt - debt };
}

function takeBack(from: Line, amount: bigint): Line {
  const back = reach([['loose', from.loose], ...[...from.left].reverse()], amount);
  const left = new Map(from.left);
  for (const [id, part] of back.reached) {
    if (id !== 'loose') left.set(id, (left.get(id) ?? 0n) - part);
  }
  const loose = back.reached[0]?.[1] ?? 0n;
  return { ...from, left, loose: from.loose - loose, debt: from.debt + back.beyond };
}

function without(amounts: Map<string, bigint>, id: string): Map<string, bigint> {
  return new Map([...amounts].filter(([each]) => each !== id));
}

/**
 * I14: what was left of each grant at its expiry, and that what is left of all of them, by usage and the
 * ledger of credits alone, is the balance. Recomputed without the product's code.
 * @returns violations in words
 */
export function checkGrants(payer: GrantSources): string[] {
  const { entries, grant_order: order, expiries } = payer;
  const stored = new Map(expiries.map((each) => [each.grant_id, each]));
  const name = `${payer.payer_scope}=${payer.payer_id}`;
  const problems: string[] = [];
  let line: Line = { left: new Map(), spent: new Map(), loose: 0n, debt: 0n };
  let used = 0n;
  let rest = 0n;
  const inOrder = (amounts: Map<string, bigint>) =>
    new Map(order.flatMap((id) => (amounts.has(id) ? [[id, amounts.get(id) ?? 0n] as const] : [])));
  for (const { id, kind, grant_id: grantId, amount, used: usedThen } of entries) {
    if (usedThen !== null) {
      line = move(line, BigInt(usedThen) - used);
      used = BigInt(usedThen);
    }
    const value = BigInt(amount);
    if (kind === 'credit' && value < 0n) line = takeBack(line, -value);
    else if (kind === 'credit') {
      const debt = between(0n, line.debt, value);
      line = {
        ...line,
        left: inOrder(new Map(line.left).set(id, value - debt)),
        spent: inOrder(new Map(line.spent).set(id, 0n)),
        debt: line.debt - debt,
      };
    } else {
      rest += value;
      if (kind !== 'expiry' || grantId === null) continue;
      const left = line.left.get(grantId) ?? 0n;
      const known = stored.get(grantId);
      if (known?.left !== String(left)) {
        problems.push(
          `I14 grant ${grantId} of ${name}: left ${left}, but stored is ${known?.left}`,
        );
      }
      rest += left - BigInt(known?.late ?? 0);
      line = { ...line, left: without(line.left, grantId), spent: without(line.spent, grantId) };
    }
  }
  const late = expiries.reduce((sum, each) => sum + BigInt(each.late), 0n);
  line = move(line, BigInt(payer.used) - late - used);
  const inForce = [...line.left.values()].reduce((sum, each) => sum + each, 0n);
  const left = inForce + line.loose - line.debt + rest;
  const balance = BigInt(payer.acquired) - BigInt(payer.used);
  if (left !== balance) {
    problems.push(`I14 ${name}: balance ${balance}, but its grants have ${left} left`);
  }
  return problems;
}
