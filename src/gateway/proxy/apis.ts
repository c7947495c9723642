import type { WireFormat } from '../processUsage/index.js';

export const PROVIDERS = ['openai', 'anthropic'] as const;
export type Provider = (typeof PROVIDERS)[number];

/** One metered route. */
export interface Api {
  /** Stored as `api_kind`. */
  kind: 'openai_chat' | 'openai_responses' | 'anthropic_messages';
  format: WireFormat;
  path: string;
  provider: Provider;
}

export const APIS: readonly Api[] = [
  {
    kind: 'openai_chat',
    format: 'openai-chat',
    path: '/v1/chat/completions',
    provider: 'openai',
  },
  {
    kind: 'openai_responses',
    format: 'openai-responses',
    path: '/v1/responses',
    provider: 'openai',
  },
  {
    kind: 'anthropic_messages',
    format: 'anthropic-messages',
    path: '/v1/messages',
    provider: 'anthropic',
  },
];

export const MODELS_PATH = '/v1/models';
