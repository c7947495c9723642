import { expect, it } from 'vitest';
import { whileAlive } from '../../src/shards/move/moveRow.js';

it('waits for the work, and for no beat to a database that says nothing', async () => {
  let beats = 0;
  let began = () => {};
  const beating = new Promise<void>((resolve) => {
    began = resolve;
  });
  const silent = () => {
    beats++;
    began();
    return new Promise<never>(() => {});
  };
  await whileAlive(6, [silent], () => beating);
  expect(beats).toBe(1);
});
