import type { UsageMetadata } from '../../../record/types.js';
import { type FollowedResponse, type OpenResponse, toApiKeyId } from '../../durable/types.js';
import { prepareRequest } from '../../processUsage/index.js';
import type { Api } from '../apis.js';
import { ENDPOINTS, type MeteredEndpoint } from '../endpoints.js';
import { type Exchange, toIntent } from '../exchange.js';
import type { MeteredExchange } from '../usageEvent.js';

/** What a request says of itself that is nobody's personal data. */
export function toFollowed(exchange: Exchange, responseId: string): FollowedResponse {
  const { metadata, prepared, upstream } = exchange;
  const details: UsageMetadata = {
    feature: metadata.feature ?? null,
    mode: metadata.mode ?? null,
    ...(metadata.tags ? { tags: metadata.tags } : {}),
    has_tools: prepared.hasTools,
    system_prompt_length: prepared.systemPromptLength,
  };
  const intent = { ...toIntent(exchange), api_kind: exchange.api.kind };
  return { intent, response_id: responseId, upstream: upstream.name, details };
}

/** The exchange again, from what was kept of it: for the row of a response that has ended. */
export function toExchange({
  intent,
  upstream,
  details,
  projectId,
}: OpenResponse): MeteredExchange {
  const { api_kind: kind, requested_model: model } = intent;
  const endpoint = ENDPOINTS.find(
    (each): each is MeteredEndpoint => each.use === 'metered' && each.kind === kind,
  );
  const { format, path } = endpoint ?? { format: 'openai-responses', path: '/v1/responses' };
  const api: Api = { kind, format, path, provider: upstream };
  const createdAt = new Date(intent.created_at);
  const { has_tools: hasTools, system_prompt_length: systemPromptLength, ...metadata } = details;
  return {
    id: intent.id,
    api,
    payer: { kilo_user_id: intent.kilo_user_id, organization_id: intent.organization_id },
    createdAt,
    arrivedAt: performance.now() - (Date.now() - createdAt.getTime()),
    prepared: {
      ...prepareRequest(format, Buffer.from(JSON.stringify({ model }))),
      streamed: intent.streamed,
      maxTokens: intent.max_tokens,
      hasTools: hasTools ?? false,
      inputTokensEstimate: intent.input_tokens_estimate,
      systemPromptLength: systemPromptLength ?? null,
    },
    metadata,
    // Without a hold it is known only to the process that let the request through.
    projectId,
    apiKeyId: toApiKeyId(intent.api_key_id),
  };
}
