import type { MeteredEndpoint } from './endpoints.js';
import type { Upstream } from './upstreams.js';

/** Hosts that the GenAI conventions have a name for. */
const PROVIDER_NAMES: readonly (readonly [host: RegExp, name: string])[] = [
  [/(^|\.)openai\.azure\.com$/, 'azure.ai.openai'],
  [/(^|\.)services\.ai\.azure\.com$/, 'azure.ai.inference'],
  [/(^|\.)openai\.com$/, 'openai'],
  [/(^|\.)anthropic\.com$/, 'anthropic'],
  [/(^|\.)amazonaws\.com$/, 'aws.bedrock'],
  [/^generativelanguage\.googleapis\.com$/, 'gcp.gemini'],
  [/(^|[.-])aiplatform\.googleapis\.com$/, 'gcp.vertex_ai'],
  [/(^|\.)mistral\.ai$/, 'mistral_ai'],
  [/(^|\.)cohere\.(ai|com)$/, 'cohere'],
  [/(^|\.)deepseek\.com$/, 'deepseek'],
  [/(^|\.)groq\.com$/, 'groq'],
  [/(^|\.)perplexity\.ai$/, 'perplexity'],
  [/(^|\.)x\.ai$/, 'x_ai'],
];

/** `gen_ai.provider.name`: the conventions' for the host, else what the operator calls it. */
export function providerNameOf({ name, host }: Pick<Upstream, 'name' | 'host'>): string {
  const hostname = host.replace(/:\d+$/, '');
  return PROVIDER_NAMES.find(([pattern]) => pattern.test(hostname))?.[1] ?? name;
}

/** `gen_ai.operation.name`. What the conventions have no word for is named for its path. */
export function operationOf({ path, side }: MeteredEndpoint): string {
  switch (side) {
    case undefined:
      return 'chat';
    case 'completions':
      return 'text_completion';
    case 'embeddings':
      return 'embeddings';
    case 'images':
    case 'audio':
      return 'generate_content';
    default:
      return path.replace(/^\/v1\//, '');
  }
}
