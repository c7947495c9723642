import type { SideFormat, WireFormat } from '../processUsage/index.js';
import type { Provider } from './apis.js';

export type Method = 'GET' | 'POST' | 'DELETE';

interface Route {
  /** Stored as `api_kind` where it is metered; names it in metrics and logs. */
  kind: string;
  method: Method;
  /**
   * `{id}` stands for one segment; `{model}`, at the end, for up to four: names of models may hold
   * slashes.
   */
  path: string;
  /** `either`: Anthropic's where the client names its version, else OpenAI's. */
  provider: Provider | 'either';
}

/** Costs money: needs credit, and is recorded. */
export interface MeteredEndpoint extends Route {
  use: 'metered';
  provider: Provider;
  format: WireFormat;
  /** How its usage is read, where that is not the way of `format`. */
  side?: SideFormat;
}

/** Passed on; the providers charge nothing for it. */
export interface FreeEndpoint extends Route {
  use: 'free';
}

/** Of one stored response: for the key that made it. */
export interface OwnedEndpoint extends Route {
  use: 'owned';
  provider: Provider;
}

export type Endpoint = MeteredEndpoint | FreeEndpoint | OwnedEndpoint;

const openai = (
  kind: string,
  path: string,
  format: WireFormat,
  side?: SideFormat,
): MeteredEndpoint => ({
  kind,
  method: 'POST',
  path,
  provider: 'openai',
  use: 'metered',
  format,
  ...(side === undefined ? {} : { side }),
});

const owned = (kind: string, method: Method, path: string): OwnedEndpoint => ({
  kind,
  method,
  path,
  provider: 'openai',
  use: 'owned',
});

/** Everything that is ever sent to a provider; what is not here stays here. */
export const ENDPOINTS: readonly Endpoint[] = [
  openai('openai_chat', '/v1/chat/completions', 'openai-chat'),
  openai('openai_responses', '/v1/responses', 'openai-responses'),
  openai('openai_compact', '/v1/responses/compact', 'openai-responses'),
  {
    kind: 'anthropic_messages',
    method: 'POST',
    path: '/v1/messages',
    provider: 'anthropic',
    use: 'metered',
    format: 'anthropic-messages',
  },
  openai('openai_completions', '/v1/completions', 'openai-chat', 'completions'),
  openai('openai_embeddings', '/v1/embeddings', 'openai-chat', 'embeddings'),
  openai('openai_images', '/v1/images/generations', 'openai-chat', 'images'),
  openai('openai_image_edits', '/v1/images/edits', 'openai-chat', 'images'),
  openai('openai_transcriptions', '/v1/audio/transcriptions', 'openai-chat', 'audio'),
  openai('openai_translations', '/v1/audio/translations', 'openai-chat', 'audio'),
  openai('openai_speech', '/v1/audio/speech', 'openai-chat', 'audio'),
  openai('rerank', '/v1/rerank', 'openai-chat', 'rerank'),
  free('models', 'GET', '/v1/models', 'either'),
  free('models', 'GET', '/v1/models/{model}', 'either'),
  free('count_tokens', 'POST', '/v1/messages/count_tokens', 'anthropic'),
  free('input_tokens', 'POST', '/v1/responses/input_tokens', 'openai'),
  free('moderations', 'POST', '/v1/moderations', 'openai'),
  owned('response', 'GET', '/v1/responses/{id}'),
  owned('response_delete', 'DELETE', '/v1/responses/{id}'),
  owned('response_cancel', 'POST', '/v1/responses/{id}/cancel'),
  owned('response_input_items', 'GET', '/v1/responses/{id}/input_items'),
];

function free(
  kind: string,
  method: Method,
  path: string,
  provider: Route['provider'],
): FreeEndpoint {
  return { kind, method, path, provider, use: 'free' };
}

const ONE_BY_ONE = 'its cost is not known here; send the requests one by one';
const SHARED = "it belongs to the gateway's account with the provider, which all its users share";
const NOT_READ = 'its usage cannot be read as it passes';

/** Refused by name, with everything below them: the providers have them, this gateway not. */
export const REFUSED: readonly { path: string; name: string; why: string }[] = [
  { path: '/v1/batches', name: 'the Batch API', why: ONE_BY_ONE },
  { path: '/v1/messages/batches', name: 'the Message Batches API', why: ONE_BY_ONE },
  { path: '/v1/realtime', name: 'the Realtime API', why: NOT_READ },
  { path: '/v1/videos', name: 'the Videos API', why: NOT_READ },
  { path: '/v1/images/variations', name: 'image variations', why: NOT_READ },
  { path: '/v1/threads', name: 'the Assistants API', why: NOT_READ },
  { path: '/v1/assistants', name: 'the Assistants API', why: NOT_READ },
  { path: '/v1/evals', name: 'the Evals API', why: NOT_READ },
  { path: '/v1/fine_tuning', name: 'fine-tuning', why: NOT_READ },
  { path: '/v1/files', name: 'the Files API', why: SHARED },
  { path: '/v1/uploads', name: 'the Uploads API', why: SHARED },
  { path: '/v1/containers', name: 'the Containers API', why: SHARED },
  { path: '/v1/conversations', name: 'the Conversations API', why: SHARED },
  { path: '/v1/vector_stores', name: 'the Vector Stores API', why: SHARED },
  { path: '/v1/skills', name: 'the Skills API', why: SHARED },
  { path: '/v1/chat/completions', name: 'stored chat completions', why: SHARED },
  { path: '/v1/organization', name: 'the administration API', why: SHARED },
  { path: '/v1/organizations', name: 'the administration API', why: SHARED },
  { path: '/v1/credits', name: 'the balance', why: SHARED },
  { path: '/v1/key', name: 'the key', why: SHARED },
  { path: '/v1/keys', name: 'the keys API', why: SHARED },
  { path: '/v1/auth', name: 'the keys API', why: SHARED },
  { path: '/v1/generation', name: 'the generations API', why: SHARED },
];
