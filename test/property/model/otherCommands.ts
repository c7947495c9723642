import { expect } from 'vitest';
import { type SettleLimits, settleStatement } from '../../../src/counter/settle.sql.js';
import { settleExaStatement } from '../../../src/counter/settleExa.sql.js';
import { ORGANIZATION_SCOPE, USER_SCOPE } from '../../../src/schema/unsettled.js';
import { addCredit, softDeleteUser } from '../../../src/shards/accounts.js';
import { type Command, writer } from './command.js';
import { compareReports } from './compare.js';
import { areLocksHeld, hasOpenSession, type LedgerModel } from './ledgerModel.js';
import type { Program } from './program.js';

export class Fold implements Command {
  check = () => true;
  async run(model: LedgerModel, program: Program) {
    const report = await writer(program, 0).fold();
    if (!areLocksHeld(model)) expect(report.remaining).toBe(0);
  }
  toString = () => 'fold';
}

/** One look at every payer, as the background has it. */
export class SweepAll implements Command {
  check = () => true;
  async run(_: LedgerModel, program: Program) {
    for (const sweep of program.world.sweeps) await sweep.pass();
    await compareReports(program);
  }
  toString = () => 'sweep';
}

/** One fold of everybody here, in both logs, within limits; nothing that is reported changes. */
export class SettleAll implements Command {
  constructor(readonly limits: SettleLimits) {}
  check = () => true;
  async run(_: LedgerModel, program: Program) {
    const { world, users, organization } = program;
    for (const [scope, ids] of [
      [USER_SCOPE, users],
      [ORGANIZATION_SCOPE, [organization]],
    ] as const) {
      for (const statement of [
        settleStatement(
          scope,
          ids,
          ids.map(() => true),
          this.limits,
        ),
        settleExaStatement(scope, ids, this.limits),
      ]) {
        await world.query(statement);
      }
    }
    await compareReports(program);
  }
  toString = () => `settle(${JSON.stringify(this.limits)})`;
}

/** Waits for writes in flight, so only when there are none here. */
export class SoftDelete implements Command {
  constructor(readonly user: number) {}
  check = (model: Readonly<LedgerModel>) => !hasOpenSession(model);
  async run(model: LedgerModel, { world, users }: Program) {
    await softDeleteUser(world.accounts, users[this.user] ?? '');
    model.deleted.add(this.user);
  }
  toString = () => `softDelete(${this.user})`;
}

export class Credit implements Command {
  constructor(
    readonly payer: number,
    readonly cents: number,
  ) {}
  // A credit is no usage write: it waits for who holds its row.
  check = (model: Readonly<LedgerModel>) => !areLocksHeld(model);
  async run(model: LedgerModel, { world, users, organization }: Program) {
    const isOrganization = this.payer >= users.length;
    const added = addCredit(world.accounts, {
      ...(isOrganization
        ? { organization_id: organization }
        : { kilo_user_id: users[this.payer] ?? '' }),
      usd: this.cents / 100,
    });
    if (model.deleted.has(this.payer)) {
      await expect(added).rejects.toMatchObject({ code: 'unknown_user' });
      return;
    }
    await added;
    const key = isOrganization ? 'organization' : String(this.payer);
    model.credits.set(key, (model.credits.get(key) ?? 0) + this.cents * 10_000);
  }
  toString = () => `credit(${this.payer}, ${this.cents})`;
}

/** Of shards: a payer leaves for another one, with all that it has, and nothing that is reported changes. */
export class Move implements Command {
  constructor(
    readonly payer: number,
    readonly to: number,
  ) {}
  check = () => true;
  async run(_: LedgerModel, program: Program) {
    const { world, users, organization } = program;
    const id = users[this.payer];
    const payer = id === undefined ? { organization_id: organization } : { kilo_user_id: id };
    const to = this.to % world.databases.length;
    if (world.placeOf(payer) === to) return;
    await world.move(payer, to);
    await compareReports(program);
  }
  toString = () => `move(${this.payer}, ${this.to})`;
}

export class Read implements Command {
  check = () => true;
  async run(_: LedgerModel, program: Program) {
    await compareReports(program);
  }
  toString = () => 'read';
}
