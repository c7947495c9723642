import { EventEmitter } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { expect, it } from 'vitest';
import { Bodies } from '../../../src/gateway/proxy/bodies.js';

setFlagsFromString('--expose-gc');
const collectGarbage: () => void = runInNewContext('gc');

it('of a body that comes byte by byte the pieces are not kept one by one', async () => {
  const bodies = new Bodies(1_000_000);
  const request = { headers: {} } as FastifyRequest;
  bodies.open(request, { raw: new EventEmitter() } as unknown as FastifyReply, 'ada');
  const payload = new EventEmitter();
  const whole = bodies.read(request, payload as unknown as NodeJS.ReadableStream, 10_000);
  const bytes = Array.from({ length: 5_000 }, (_, at) => at % 256);
  const pieces = bytes.map((byte) => {
    const piece = Buffer.alloc(1, byte);
    payload.emit('data', piece);
    return new WeakRef(piece);
  });
  await turn();
  collectGarbage();
  expect(pieces.filter((piece) => piece.deref() !== undefined).length).toBeLessThan(1_100);
  payload.emit('end');
  expect([...(await whole)]).toEqual(bytes);
});
