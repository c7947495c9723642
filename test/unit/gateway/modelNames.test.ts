import { describe, expect, it } from 'vitest';
import { findListPrice } from '../../../src/gateway/prices/listPrices.js';
import { NOW } from './meterCall.js';

/** The same models as clouds and routers name them, behind a host that nobody knows. */
const BEHIND_ANY_HOST: [name: string, listed: string][] = [
  ['us.anthropic.claude-sonnet-4-5-20250929-v1:0', 'aws/regional.anthropic.claude-sonnet-4-5'],
  ['eu.anthropic.claude-sonnet-4-5-20250929-v1:0', 'aws/regional.anthropic.claude-sonnet-4-5'],
  ['apac.anthropic.claude-sonnet-4-5-20250929-v1:0', 'aws/regional.anthropic.claude-sonnet-4-5'],
  ['global.anthropic.claude-sonnet-4-5-20250929-v1:0', 'aws/global.anthropic.claude-sonnet-4-5'],
  ['anthropic.claude-sonnet-4-5-20250929-v1:0', 'aws/regional.anthropic.claude-sonnet-4-5'],
  ['anthropic.claude-3-5-sonnet-20241022-v2:0', 'aws/regional.anthropic.claude-3-5-sonnet'],
  ['bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0', 'aws/regional.anthropic'],
  [
    'arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0',
    'aws/regional.anthropic.claude-sonnet-4-5',
  ],
  ['bedrock/us-east-1/anthropic.claude-3-haiku-20240307-v1:0', 'aws/regional.anthropic.claude-3'],
  ['us-east-1/anthropic.claude-3-haiku-20240307-v1:0', 'aws/regional.anthropic.claude-3-haiku'],
  ['ap-northeast-1.anthropic.claude-3-haiku-20240307-v1:0', 'aws/regional.anthropic.claude-3'],
  ['eu/gpt-4o-2024-08-06', 'openai/gpt-4o'],
  ['azure/eu/gpt-4o', 'openai/gpt-4o'],
  ['global-standard/gpt-4o-mini', 'openai/gpt-4o-mini'],
  ['us.amazon.nova-pro-v1:0', 'aws/amazon.nova-pro'],
  ['us.deepseek.r1-v1:0', 'aws/deepseek.r1'],
  ['meta.llama3-1-70b-instruct-v1:0', 'aws/meta.llama3-1-70b-instruct'],
  ['us.anthropic.claude-haiku-4-5', 'claude-haiku-4-5'],
  ['claude-sonnet-4-5@20250929', 'anthropic/claude-sonnet-4-5'],
  ['claude-sonnet-4-5[1m]', 'anthropic/claude-sonnet-4-5'],
  ['anthropic/claude-sonnet-4.5', 'anthropic/claude-sonnet-4-5'],
  ['openrouter/anthropic/claude-sonnet-4.5', 'openrouter/anthropic/claude-sonnet-4.5'],
  ['publishers/anthropic/models/claude-sonnet-4-5', 'anthropic/claude-sonnet-4-5'],
  [
    'projects/p/locations/us-east5/publishers/anthropic/models/claude-sonnet-4-5',
    'anthropic/claude-sonnet-4-5',
  ],
  ['models/gemini-2.5-flash', 'google/gemini-2.5-flash'],
  ['google/gemini-2.5-flash', 'google/gemini-2.5-flash'],
  ['azure/gpt-4o', 'azure/gpt-4o'],
  ['openai/gpt-4o-mini', 'openai/gpt-4o-mini'],
  ['gpt-4o:nitro', 'openai/gpt-4o'],
  ['openai/openai/gpt-4o', 'openai/gpt-4o'],
  ['accounts/fireworks/models/gpt-oss-120b', 'fireworks/gpt-oss-120b'],
  ['fireworks_ai/accounts/fireworks/models/gpt-oss-120b', 'fireworks/gpt-oss-120b'],
  ['fireworks-ai/gpt-oss-120b', 'fireworks/gpt-oss-120b'],
  ['fireworks/models/gpt-oss-120b', 'fireworks/gpt-oss-120b'],
  ['togetherai/meta-llama/Llama-3.3-70B-Instruct-Turbo', 'together/meta-llama/Llama-3.3-70B'],
  ['grok/grok-3', 'x-ai/grok-3'],
  ['workers-ai/@cf/meta/llama-3-8b-instruct', 'cloudflare/@cf/meta/llama-3-8b-instruct'],
  ['openai:gpt-4o', 'openai/gpt-4o'],
  ['anthropic:claude-sonnet-4-5', 'anthropic/claude-sonnet-4-5'],
  ['openai/responses/gpt-5', 'openai/gpt-5'],
  ['bedrock/converse/us.anthropic.claude-sonnet-4-5-20250929-v1:0', 'aws/regional.anthropic'],
  ['vercel_ai_gateway/openai/gpt-4o', 'openai/gpt-4o'],
  ['gpt-5-high', 'openai/gpt-5'],
  ['openai/gpt-5-mini(low)', 'openai/gpt-5-mini'],
  ['claude-4.5-sonnet', 'anthropic/claude-sonnet-4-5'],
  ['anthropic--claude-4-sonnet', 'anthropic/claude-sonnet-4'],
  ['databricks-claude-sonnet-4-5', 'anthropic/claude-sonnet-4-5'],
  ['GPT-4o-2024-08-06', 'openai/gpt-4o'],
];

describe('names with region, version, vendor or path around them', () => {
  it.each(BEHIND_ANY_HOST)('%s', (model, listed) => {
    for (const upstreamHost of [null, '127.0.0.1', 'llm.example:8443']) {
      for (const format of ['openai-chat', 'anthropic-messages'] as const) {
        const found = findListPrice({ model, format, upstreamHost, at: NOW });
        expect(found?.version).toContain(listed);
      }
    }
  });

  it.each([
    ['bedrock-runtime.us-east-1.amazonaws.com', 'us.anthropic.claude-sonnet-4-5-20250929-v1:0'],
    ['bedrock-runtime.eu-west-1.amazonaws.com:443', 'anthropic.claude-sonnet-4-5-20250929-v1:0'],
    ['bedrock-mantle.us-east-1.api.aws', 'us.anthropic.claude-sonnet-4-5-20250929-v1:0'],
  ])('at %s', (upstreamHost, model) => {
    const found = findListPrice({ model, format: 'anthropic-messages', upstreamHost, at: NOW });
    expect(found).toMatchObject({ provider: 'aws' });
  });

  it.each([
    'no-such-model',
    'us.anthropic.no-such-model-v1:0',
    'acme.example/gpt-5-finetune',
    '',
    '/',
    'us.',
    '__proto__',
    'constructor',
    '@',
    '[1m]',
  ])('%s has no price', (model) => {
    const query = { model, format: 'openai-chat' as const, upstreamHost: null, at: NOW };
    expect(findListPrice(query)).toBeNull();
  });
});
