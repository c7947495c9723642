import type { FastifyReply, FastifyRequest } from 'fastify';
import { newUuid } from '../../ids.js';
import { type GatewayPrincipal, type Intent, type Payer, toApiKeyId } from '../durable/types.js';
import {
  BACKGROUND_INTENT,
  type JsonObject,
  type PreparedRequest,
  parseBody,
  prepareRequest,
  prepareSideRequest,
} from '../processUsage/index.js';
import { readGatewayKey } from './admission.js';
import type { ReadClientAddress } from './clientAddress.js';
import type { MeteredEndpoint } from './endpoints.js';
import { readProject, readRequestMetadata } from './requestMetadata.js';
import type { Reserved } from './reservations.js';
import type { Target } from './target.js';
import type { Upstream, Upstreams } from './upstreams.js';
import type { MeteredExchange } from './usageEvent.js';

/** One metered request, from its whole body to its durable usage. */
export interface Exchange extends MeteredExchange {
  endpoint: MeteredEndpoint;
  target: Target;
  upstream: Upstream;
  principal: GatewayPrincipal;
  request: FastifyRequest;
  reply: FastifyReply;
  /** The client's key, which goes nowhere. */
  token: string;
  /** As the client sent it, but for a limit of its output that was lowered. */
  body: Buffer;
  /** What the body says, until it is admitted: a prompt is parsed once. Null: not JSON, or not kept. */
  json: JsonObject | null;
  /** Null: nothing is held for it. */
  reserved: Reserved | null;
  /** The provider answers at once, and goes on: its usage is known when it has ended. */
  isBackground: boolean;
  /** On every answer to it. */
  ownHeaders: Readonly<Record<string, string>>;
}

export interface Call {
  endpoint: MeteredEndpoint;
  target: Target;
  principal: GatewayPrincipal;
  payer: Payer;
  request: FastifyRequest;
  reply: FastifyReply;
  body: Buffer;
}

/**
 * Reads the request and finds its upstream.
 * @throws Refusal `model_not_served`, `upstream_not_configured`; LedgerError `invalid_request`
 */
export async function openExchange(
  call: Call,
  upstreams: Upstreams,
  readClientAddress: ReadClientAddress,
  sharedHeaders: Readonly<Record<string, string>>,
): Promise<Exchange> {
  const arrivedAt = performance.now();
  const createdAt = new Date();
  const { endpoint, target, principal, payer, request, reply, body } = call;
  const json = endpoint.side === undefined ? parseBody(body) : null;
  const prepared = await prepare(endpoint, body, json, request.headers['content-type'] ?? '');
  const upstream = upstreams.forModel(endpoint.provider, prepared.requestedModel);
  const id = newUuid();
  const { kind, format, path } = endpoint;
  return {
    endpoint,
    target,
    principal,
    payer,
    request,
    reply,
    body,
    json,
    id,
    api: { kind, format, path, provider: upstream.name },
    upstream,
    createdAt,
    arrivedAt,
    prepared,
    reserved: null,
    metadata: readRequestMetadata(request.raw, readClientAddress),
    projectId: readProject(request.headers),
    apiKeyId: toApiKeyId(principal.keyId),
    isBackground: endpoint.path === '/v1/responses' && prepared.background,
    token: readGatewayKey(request.headers) ?? '',
    ownHeaders: { ...sharedHeaders, 'x-microdollar-usage-id': id },
  };
}

async function prepare(
  { format, side }: MeteredEndpoint,
  body: Buffer,
  json: JsonObject | null,
  contentType: string,
): Promise<PreparedRequest> {
  if (side === undefined) return prepareRequest(format, body, json ?? undefined);
  return prepareSideRequest(side, body, contentType);
}

/** What is durable before the provider is called (I9). */
export function toIntent(exchange: Exchange): Intent {
  const { id, api, payer, principal, createdAt, prepared, isBackground } = exchange;
  return {
    id,
    kilo_user_id: payer.kilo_user_id,
    organization_id: payer.organization_id,
    api_key_id: principal.keyId,
    api_kind: isBackground ? BACKGROUND_INTENT : api.kind,
    requested_model: prepared.requestedModel,
    created_at: createdAt.toISOString(),
    input_tokens_estimate: prepared.inputTokensEstimate,
    max_tokens: prepared.maxTokens,
    streamed: prepared.streamed,
  };
}
