interface Grant {
  id: string;
  amount: number;
  left: number;
  spent: number;
  /** Ms; null: never. */
  expiresAt: number | null;
  priority: number;
  number: number;
  /** What it had at its expiry, what late usage spent of that, and what left the balance. */
  expired: { left: number; late: number; gone: number } | null;
}

/**
 * What grants come to, with every microdollar a coin that has an owner. Usage between two changes of the
 * ledger of credits counts by its sum: coins are spent from one end of the line of those that are there,
 * and come back at the same end.
 */
export class GrantModel {
  acquired = 0;
  /** Open holds, and when they were made. */
  readonly holds = new Map<string, { amount: number; at: number }>();
  readonly #grants: Grant[] = [];
  #loose = 0;
  #debt = 0;
  #used = 0;
  /** Usage since the last change, by whoever has no grant that expired. */
  #recent: { cost: number; at: number }[] = [];

  grant(id: string, amount: number, expiresAt: number | null, priority: number): void {
    this.#change();
    const debt = Math.min(this.#debt, amount);
    this.#debt -= debt;
    const number = this.#grants.length;
    const left = amount - debt;
    this.#grants.push({ id, amount, left, spent: 0, expiresAt, priority, number, expired: null });
    this.acquired += amount;
  }

  takeBack(amount: number): void {
    this.#change();
    const coins = [...this.#coinsLeft(), ...this.#looseCoins()].reverse();
    for (let index = 0; index < amount; index++) {
      const owner = coins[index];
      if (owner === 'loose') this.#loose--;
      else if (owner) owner.left--;
      else this.#debt++;
    }
    this.acquired -= amount;
  }

  use(cost: number, at: number): void {
    this.#used += cost;
    let open = cost;
    for (const grant of this.#expired()) {
      if (at >= (grant.expiresAt ?? 0)) continue;
      const late = Math.min(open, grant.expired.left - grant.expired.late);
      grant.expired.late += late;
      open -= late;
    }
    this.#recent.push({ cost: open, at });
  }

  /** Those in force that expire next, together. */
  soonest(): string[] {
    const alive = this.#inForce().filter(({ expiresAt }) => expiresAt !== null);
    return alive.filter(({ expiresAt }) => expiresAt === alive[0]?.expiresAt).map(({ id }) => id);
  }

  setExpiry(ids: readonly string[], at: number): void {
    for (const grant of this.#grants) if (ids.includes(grant.id)) grant.expiresAt = at;
  }

  /** Of those that expired, ms. */
  expiryTimes(): number[] {
    return this.#expired().map(({ expiresAt }) => expiresAt ?? 0);
  }

  /** Lets expire what is due, and takes out of the balance what nobody holds. */
  look(now: number): void {
    const due = this.#inForce().filter(({ expiresAt }) => (expiresAt ?? now + 1) <= now);
    const at = due[0]?.expiresAt ?? now;
    if (due.length > 0) {
      const since = this.#recent.filter((usage) => usage.at >= at);
      this.#recent = this.#recent.filter((usage) => usage.at < at);
      this.#apply();
      this.#recent = since;
    }
    for (const grant of due) grant.expired = { left: grant.left, late: 0, gone: 0 };
    const held = [...this.holds.values()].reduce((sum, hold) => sum + hold.amount, 0);
    this.#withdraw(Math.max(0, this.acquired - this.#used - held));
  }

  grants(): { id: string; left: number; used: number; expired: number }[] {
    const now = structuredClone({
      recent: this.#recent,
      loose: this.#loose,
      debt: this.#debt,
      coins: this.#grants.map(({ left, spent }) => ({ left, spent })),
    });
    this.#apply();
    const rows = this.#grants.map(({ id, amount, left, expired }) => {
      const rest = expired === null ? left : expired.left - expired.late - expired.gone;
      const gone = expired?.gone ?? 0;
      return { id, left: rest, used: amount - rest - gone, expired: gone };
    });
    this.#recent = now.recent;
    this.#loose = now.loose;
    this.#debt = now.debt;
    now.coins.forEach((coins, index) => {
      Object.assign(this.#grants[index] as Grant, coins);
    });
    return rows;
  }

  /** Before the ledger changes: what is late is known by then, and nothing can be withdrawn. */
  #change(): void {
    this.#withdraw(0);
    this.#apply();
  }

  #withdraw(available: number): void {
    let room = available;
    let kept = 0;
    for (const { expired, expiresAt } of this.#expired()) {
      const held = [...this.holds.values()]
        .filter((hold) => hold.at < (expiresAt ?? 0))
        .reduce((sum, hold) => sum + hold.amount, 0);
      const rest = expired.left - expired.late;
      const ownKept = Math.min(rest, Math.max(0, held - kept));
      kept += ownKept;
      const change = Math.min(rest - ownKept - expired.gone, room);
      room -= change;
      expired.gone += change;
      this.acquired -= change;
    }
  }

  /** Moves along the line of coins by the sum of recent usage. */
  #apply(): void {
    const sum = this.#recent.reduce((total, { cost }) => total + cost, 0);
    this.#recent = [];
    const forth = [...this.#coinsLeft(), ...this.#looseCoins()];
    const back = this.#inForce()
      .reverse()
      .flatMap((grant) => Array.from({ length: grant.spent }, () => grant));
    for (let index = 0; index < sum; index++) {
      const owner = forth[index];
      if (owner === 'loose') this.#loose--;
      else if (owner) {
        owner.left--;
        owner.spent++;
      } else this.#debt++;
    }
    const paid = Math.min(this.#debt, Math.max(0, -sum));
    this.#debt -= paid;
    for (let index = 0; index < -sum - paid; index++) {
      const owner = back[index];
      if (owner) {
        owner.left++;
        owner.spent--;
      } else this.#loose++;
    }
  }

  #coinsLeft(): (Grant | 'loose')[] {
    return this.#inForce().flatMap((grant) => Array.from({ length: grant.left }, () => grant));
  }

  #looseCoins(): 'loose'[] {
    return Array.from({ length: this.#loose }, () => 'loose' as const);
  }

  #ordered(): Grant[] {
    const at = ({ expiresAt }: Grant) => expiresAt ?? Number.MAX_SAFE_INTEGER;
    return [...this.#grants].sort(
      (a, b) => at(a) - at(b) || a.priority - b.priority || a.number - b.number,
    );
  }

  #inForce(): Grant[] {
    return this.#ordered().filter(({ expired }) => expired === null);
  }

  #expired(): (Grant & { expired: NonNullable<Grant['expired']> })[] {
    return this.#ordered().filter((grant) => grant.expired !== null) as (Grant & {
      expired: NonNullable<Grant['expired']>;
    })[];
  }
}
