import type { AnswerSource } from '../../ledgerTypes.js';
import type { TrpcContext } from './context.js';

/** Says in a header which source answered, and as of when (I10). */
export function setAnswerSource(ctx: TrpcContext, source: AnswerSource): void {
  if (ctx.reply.sent) return;
  ctx.reply.header(
    'x-microdollar-source',
    `${source.mode}; server=${source.server}; as-of=${source.asOf}`,
  );
}
