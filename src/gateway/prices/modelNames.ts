/** A model's name as some provider's list may have it. */
export interface ModelName {
  model: string;
  /** Whose name it is, as the list calls providers; null = nobody's in particular. */
  provider: string | null;
}

const BEDROCK =
  /^((us|us-gov|eu|apac|jp|au|ca|in|sa|me|global|[a-z]{2}(-[a-z]+)+-\d)\.)?(anthropic|amazon|meta|mistral|cohere|ai21|deepseek|openai|qwen|google|minimax|moonshot|moonshotai|nvidia|writer|zai)\.[a-z0-9]/;
/** Before the name proper, by clouds and routers. */
const PATHS = [
  /^arn:aws[a-z-]*:bedrock:.*\//,
  /^(projects\/.*)?publishers\/[^/]+\/models\//,
  /^models\//,
  /^(bedrock|bedrock_converse|bedrock\/converse|vertex_ai|vertex|azure|azure_ai|openrouter)\//,
  /^(gemini|google|litellm_proxy|proxy|gateway|vercel)\//,
  // A region, or a kind of deployment.
  /^(us|eu|apac|global|[a-z]{2}(-[a-z]+)+-\d|(global|data-?zone|regional)-?standard)\//,
] as const;
/** After it: a window (Claude Code), a choice of host (OpenRouter), a snapshot (Vertex). */
const SUFFIXES = [
  /\[[^\]]*\]$/,
  /:(nitro|floor|exacto|beta|latest)$/,
  /@(default|latest)$/,
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
  const seen = new Set([`null ${model}`]);
  return names.filter(({ model: name, provider }) => {
    const key = `${provider} ${name}`;
    return name !== '' && !seen.has(key) && seen.add(key);
  });
}

function strip(model: string): string {
  let name = model.trim();
  for (const path of PATHS) name = name.replace(path, '');
  // A router's name for a router's name: `openai/openai/gpt-4o`.
  name = name.replace(/^([^/]+)\/(?=\1\/)/, '').replace(/^databricks-/, '');
  for (const suffix of SUFFIXES) name = name.replace(suffix, '');
  return name;
}
