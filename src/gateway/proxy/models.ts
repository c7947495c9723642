import type { FastifyReply, FastifyRequest } from 'fastify';
import { readGatewayKey } from './admission.js';
import type { Provider } from './apis.js';
import { toUpstreamHeaders } from './headers.js';
import { Refusal } from './refusal.js';
import { type Target, toSearch } from './target.js';
import type { Upstream } from './upstreams.js';

export interface ModelsCall {
  candidates: readonly Upstream[];
  provider: Provider;
  target: Target;
  request: FastifyRequest;
  reply: FastifyReply;
  ownHeaders: Readonly<Record<string, string>>;
}

interface Model {
  id: string;
}

const TIMEOUT_MS = 10_000;

/**
 * `GET /v1/models` of several upstreams: of each the models that it serves here, in their order. One
 * that does not answer is left out.
 * @throws Refusal `upstream_unreachable` where none answers
 */
export async function answerModels(call: ModelsCall): Promise<FastifyReply> {
  const { candidates, request, reply, ownHeaders } = call;
  const lists = await Promise.all(candidates.map((upstream) => listModels(upstream, call)));
  const answered = lists.filter((list) => list !== null);
  if (answered.length === 0) {
    throw new Refusal('upstream_unreachable', 'no provider of this gateway lists its models');
  }
  if (answered.length < lists.length) {
    request.log.warn({ missing: lists.length - answered.length }, 'lists of models are missing');
  }
  const models = new Map<string, Model>();
  for (const model of answered.flat()) if (!models.has(model.id)) models.set(model.id, model);
  const data = [...models.values()];
  const body =
    call.provider === 'openai'
      ? { object: 'list', data }
      : { data, has_more: false, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
  return reply.headers(ownHeaders).send(body);
}

/** Null: it did not answer with a list. */
async function listModels(
  upstream: Upstream,
  { candidates, provider, target, request }: ModelsCall,
): Promise<Model[] | null> {
  const token = readGatewayKey(request.headers) ?? '';
  try {
    upstream.requireConfigured();
    const { statusCode, body } = await upstream.pool.request({
      path: `${upstream.toPath(target.path)}${toSearch(target.query, token)}`,
      method: 'GET',
      headers: toUpstreamHeaders(request.headers, token, upstream.ownHeaders),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const list = (await body.json()) as { data?: unknown };
    if (statusCode !== 200 || !Array.isArray(list.data)) return null;
    const isServed = (model: Model) => firstFor(candidates, model.id) === upstream;
    return list.data.filter(isModel).filter(isServed);
  } catch (error) {
    const cause = (error as { code?: unknown }).code;
    request.log.warn({ upstream: upstream.name, provider, cause }, 'no list of models');
    return null;
  }
}

function firstFor(candidates: readonly Upstream[], model: string): Upstream | undefined {
  return candidates.find(
    ({ models }) => models === null || models.some((each) => each.test(model)),
  );
}

function isModel(value: unknown): value is Model {
  return typeof (value as Model | null)?.id === 'string';
}
