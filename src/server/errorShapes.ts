import type { FastifyReply, FastifyRequest } from 'fastify';
import type { HttpFailure } from './errors.js';

export interface ShapedError {
  status: number;
  headers: Readonly<Record<string, string>>;
  body: object;
}

/** An error as the API that was called words it; null = not that API's business. */
export type AnswerInShape = (
  request: Pick<FastifyRequest, 'method' | 'headers' | 'url'>,
  failure: HttpFailure,
) => ShapedError | null;

/** Answers a request that no route sees, in the words of the plugin whose API it meant. */
export function sendInShape(
  shapes: readonly AnswerInShape[],
  request: FastifyRequest,
  reply: FastifyReply,
  failure: HttpFailure,
): FastifyReply {
  for (const answer of shapes) {
    const shaped = answer(request, failure);
    if (shaped !== null) return reply.code(shaped.status).headers(shaped.headers).send(shaped.body);
  }
  return reply.code(failure.status).send(failure.body);
}
