/** A model's name as some provider's list may have it. */
export interface ModelName {
  model: string;
  /** Whose name it is, as the list calls providers; null = nobody's in particular. */
  provider: string | null;
}

const BEDROCK =
  /^((us|us-gov|eu|apac|jp|au|ca|in|sa|me|global|[a-z]{2}(-[a-z]+)+-\d)\.)?(anthropic|amazon|meta|mistral|cohere|ai21|deepseek|openai|qwen|google|minimax|moonshot|moonshotai|nvidia|writer|zai)\.[a-z0-9]/;
/** `claude-4.5-sonnet`, as some write what its maker calls `claude-sonnet-4-5`. */
const CLAUDE = /(?:^|[/-])claude-([4-9])((?:[.-]\d)?)-(sonnet|opus|haiku)$/;
/** `openai:gpt-4o`, as some frameworks write `openai/gpt-4o`. */
const COLON =
  /^(openai|anthropic|google|google-gla|google-vertex|azure|azure_openai|bedrock|groq|mistral|mistralai|cohere|deepseek|xai|grok|fireworks|together|openrouter|perplexity|cerebras|moonshotai):(?=[a-z])/;
/** Before the name proper, by clouds and routers. */
const PATHS = [
  /^arn:aws[a-z-]*:bedrock:.*\//,
  /^(projects\/.*)?publishers\/[^/]+\/models\//,
  /^models\//,
  /^(amazon-bedrock|bedrock|bedrock_converse|vertex_ai|vertex|azure|azure_ai|openrouter)\//,
  /^(gemini|google|litellm_proxy|proxy|gateway|vercel|vercel_ai_gateway|ai-gateway)\//,
  // How it is called there (LiteLLM).
  /^(openai\/)?(converse|invoke|converse_like|responses|chat)\//,
  // A region, or a kind of deployment.
  /^(us|eu|apac|global|[a-z]{2}(-[a-z]+)+-\d|(global|data-?zone|regional)-?standard)\//,
] as const;
/** Providers as routers call them, and as the list does. */
const LISTED_AS = new Map([
  ['fireworks_ai', 'fireworks'],
  ['fireworks-ai', 'fireworks'],
  ['togetherai', 'together'],
  ['together_ai', 'together'],
  ['together-ai', 'together'],
  ['grok', 'x-ai'],
  ['xai', 'x-ai'],
  ['github_copilot', 'github-copilot'],
  ['copilot', 'github-copilot'],
  ['workers-ai', 'cloudflare'],
]);
/** Of Fireworks, whose names are listed with their path. */
const FIREWORKS = /^(accounts\/)?(fireworks\/)?(models|routers)\//;
/** After it: a window (Claude Code), a choice of host (OpenRouter), a snapshot (Vertex), an effort. */
const SUFFIXES = [
  /\[[^\]]*\]$/,
  /:(nitro|floor|exacto|beta|latest)$/,
  /@(default|latest)$/,
  /(?<=^(.*\/)?(gpt-\d|o\d).*)(-(none|minimal|low|medium|high|xhigh)|\((minimal|low|medium|high)\))$/,
] as const;

/**
 * Other names under which a model may be listed: without the path, region and version that clouds
 * and routers put around it. The name as it is comes first, and is not among them.
 */
export function otherNamesOf(model: string): ModelName[] {
  const bare = strip(model.toLowerCase());
  const names: ModelName[] = [];
  if (BEDROCK.test(bare)) {
    names.push({ model: bare, provider: 'aws' });
    const maker = bare.replace(BEDROCK, (match) => match.slice(-1)).replace(/(-v\d+)?(:\d+)*$/, '');
    names.push({ model: maker, provider: null });
  }
  names.push({ model: bare, provider: null });
  names.push({ model: bare.replace('@', '-'), provider: null });
  const router = bare.slice(0, Math.max(0, bare.indexOf('/')));
  const provider = LISTED_AS.get(router) ?? router;
  const rest = bare.slice(router.length + 1);
  if (provider === 'fireworks') {
    const path = 'accounts/fireworks/models/';
    names.push({ model: `${path}${rest.replace(FIREWORKS, '')}`, provider });
  } else if (provider !== router) names.push({ model: rest, provider });
  const claude = CLAUDE.exec(bare);
  if (claude !== null)
    names.push({ model: `claude-${claude[3]}-${claude[1]}${claude[2]}`, provider: null });
  const seen = new Set([`null ${model}`]);
  return names.filter(({ model: name, provider }) => {
    const key = `${provider} ${name}`;
    return name !== '' && !seen.has(key) && seen.add(key);
  });
}

function strip(model: string): string {
  let name = model.trim().replace(COLON, '$1/');
  for (const path of PATHS) name = name.replace(path, '');
  // A router's name for a router's name: `openai/openai/gpt-4o`.
  name = name.replace(/^([^/]+)\/(?=\1\/)/, '').replace(/^databricks-/, '');
  for (const suffix of SUFFIXES) name = name.replace(suffix, '');
  return name;
}
