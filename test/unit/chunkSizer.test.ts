import { describe, expect, it } from 'vitest';
import { ChunkSizer } from '../../src/rollup/chunkSizer.js';

const DAY = '2026-01-01';

describe('chunks of a job', () => {
  it('are whole days alone on the database, and blocks of users beside writers', () => {
    expect(new ChunkSizer().usesPeriod(DAY, 100_000)).toBe(true);
    expect(ChunkSizer.besideWriters().usesPeriod(DAY, 100_000)).toBe(false);
    expect(ChunkSizer.besideWriters().usesPeriod(DAY, 900)).toBe(true);
  });

  it('end within a shorter time beside writers', () => {
    const [alone, beside] = [new ChunkSizer(), ChunkSizer.besideWriters()];
    const [before, besideBefore] = [alone.users, beside.users];
    for (const sizer of [alone, beside]) sizer.observeBlock(2_000, 100);
    expect(alone.users).toBeGreaterThan(before);
    expect(beside.users).toBeLessThan(besideBefore);
    beside.observeBlock(2_000, 2);
    expect(beside.users).toBe(besideBefore);
  });

  it('aim at the length that writers bear, which changes', () => {
    let targetMs = 40;
    const beside = ChunkSizer.besideWriters({}, () => targetMs);
    const before = beside.users;
    beside.observeBlock(2_000, 15);
    expect(beside.users).toBeGreaterThan(before);
    targetMs = 10;
    beside.observeBlock(2_000, 15);
    expect(beside.users).toBeLessThan(before);
  });

  it('do not become ever smaller on a machine where the smallest takes long', () => {
    const beside = ChunkSizer.besideWriters();
    for (let chunk = 0; chunk < 20; chunk++) beside.observeBlock(beside.users * 2, 500);
    expect(beside.users).toBeGreaterThan(50);
    beside.observePeriod(400, 10_000);
    expect(beside.usesPeriod(DAY, 400)).toBe(true);
    // Of users who have much there is enough to do in a few.
    for (let chunk = 0; chunk < 20; chunk++) beside.observeBlock(beside.users * 10_000, 500);
    expect(beside.users).toBe(1);
  });

  it('learn what a whole day may have from days that are large enough', () => {
    const beside = ChunkSizer.besideWriters();
    beside.observePeriod(30, 75);
    expect(beside.usesPeriod(DAY, 1_000)).toBe(true);
    beside.observePeriod(900, 60);
    expect(beside.usesPeriod(DAY, 1_000)).toBe(false);
    expect(beside.usesPeriod(DAY, 400)).toBe(true);
    const alone = new ChunkSizer();
    alone.observePeriod(9_999, 60_000);
    expect(alone.usesPeriod(DAY, 300_000)).toBe(true);
  });

  it('shrink to one user, and a day that took too long is not tried whole again', () => {
    const sizer = ChunkSizer.besideWriters({ rowsPerStatement: 1_000 });
    expect(sizer.usesPeriod(DAY, 1_000)).toBe(true);
    expect(sizer.shrink(DAY, true)).toBe(true);
    expect(sizer.usesPeriod(DAY, 1)).toBe(false);
    while (sizer.users > 1) expect(sizer.shrink(DAY, false)).toBe(true);
    expect(sizer.shrink(DAY, false)).toBe(false);
  });
});
