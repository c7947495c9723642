import { ENDPOINTS, type Endpoint, REFUSED } from './endpoints.js';
import { Refusal } from './refusal.js';

/** What a request line names, in parts: nothing of the client's own text is sent on. */
export interface Target {
  endpoint: Endpoint;
  /** What stood for `{id}` or `{model}`, decoded; null where the path has neither. */
  id: string | null;
  /** Rebuilt: `/v1/...`, ids encoded. */
  path: string;
  /** Decoded names and values. */
  query: readonly (readonly [name: string, value: string])[];
}

/** Each with its path below `/v1` in parts. */
const PATTERNS = ENDPOINTS.map((endpoint) => ({
  endpoint,
  parts: endpoint.path.split('/').slice(2),
}));

/** Most requests name a path of the table as it stands there. */
const PLAIN = new Map(
  ENDPOINTS.filter(({ path }) => !path.includes('{')).map((endpoint) => [
    `${endpoint.method} ${endpoint.path}`,
    endpoint,
  ]),
);

/** `/v1` as OpenAI and Anthropic have it, `/api/v1` as OpenRouter has it. */
const PREFIXES = [['v1'], ['api', 'v1']] as const;
/** Of a name: models like `ft:gpt-4o:acme::7p` or `@cf/meta/llama-3`, responses like `resp_1`. */
const NAME = /^[A-Za-z0-9@~_][A-Za-z0-9@~_:.+,=-]{0,255}$/;
const MAX_MODEL_SEGMENTS = 4;
const MAX_SHOWN_PATH = 200;

/**
 * Reads a request line. Only origin form (`/path?query`) is taken, and only paths that the table
 * has; a slash at the end is let pass.
 * @throws Refusal `invalid_request` for what could name another path or host than it seems to,
 *   `not_found`, `not_supported`, `method_not_allowed`
 */
export function readTarget(method: string, url: string): Target {
  const [path, search] = splitOnce(url, '?');
  const plain = PLAIN.get(`${method} ${path}`);
  const query = search === '' ? [] : [...new URLSearchParams(search)];
  if (plain !== undefined) return { endpoint: plain, id: null, path, query };
  const segments = readSegments(path);
  const below = afterPrefix(segments);
  const matches = below === null ? [] : findMatches(below);
  const wanted = method === 'HEAD' ? 'GET' : method;
  const match = matches.find((each) => each.endpoint.method === wanted);
  if (match === undefined) {
    throw refuse(
      method,
      path,
      below,
      matches.map((each) => each.endpoint),
    );
  }
  const { endpoint, names } = match;
  const id = names.length === 0 ? null : names.join('/');
  return { endpoint, id, path: rebuild(endpoint, names), query };
}

interface Match {
  endpoint: Endpoint;
  names: readonly string[];
}

/** `/v1/responses/compact` is a path of its own, and no response of that name. */
function findMatches(below: readonly string[]): Match[] {
  const matches: Match[] = [];
  for (const { endpoint, parts } of PATTERNS) {
    const names = matchParts(parts, below);
    if (names !== null) matches.push({ endpoint, names });
  }
  const literal = matches.filter(({ names }) => names.length === 0);
  return literal.length > 0 ? literal : matches;
}

/** The query as it is sent on, with its `?`; a parameter that repeats the client's key stays. */
export function toSearch(query: Target['query'], token: string): string {
  const passed = query.filter(
    ([name, value]) => token === '' || !(name.includes(token) || value.includes(token)),
  );
  if (passed.length === 0) return '';
  const pair = ([name, value]: readonly [string, string]) =>
    `${encodeURIComponent(name)}=${encodeURIComponent(value)}`;
  return `?${passed.map(pair).join('&')}`;
}

/** Decoded, one by one: no decoded segment holds a slash, or is a dot. */
function readSegments(path: string): string[] {
  if (!path.startsWith('/')) {
    throw invalidPath('must be a path that begins with a slash, not a whole URL');
  }
  if (path === '/') return [];
  const parts = path.slice(1).split('/');
  if (parts.at(-1) === '') parts.pop();
  return parts.map((part) => {
    if (part === '') throw invalidPath('must not hold two slashes in a row');
    const segment = decode(part);
    if (/[/\\]/.test(segment)) throw invalidPath('must not hold encoded slashes or backslashes');
    if (/^\.+$/.test(segment)) throw invalidPath('must not hold segments of dots');
    return segment;
  });
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw invalidPath('is not well encoded');
  }
}

function afterPrefix(segments: readonly string[]): readonly string[] | null {
  for (const prefix of PREFIXES) {
    if (prefix.every((name, at) => segments[at] === name)) return segments.slice(prefix.length);
  }
  return null;
}

/** What stands for the names in it; null where it is another path. */
function matchParts(parts: readonly string[], below: readonly string[]): string[] | null {
  const names: string[] = [];
  for (const [at, part] of parts.entries()) {
    const segment = below[at];
    if (segment === undefined) return null;
    if (!part.startsWith('{')) {
      if (part !== segment) return null;
      continue;
    }
    const isModel = part === '{model}';
    const named = isModel ? below.slice(at, at + MAX_MODEL_SEGMENTS) : [segment];
    if (!named.every((name) => NAME.test(name))) return null;
    names.push(...named);
    if (isModel) return below.length === at + named.length ? names : null;
  }
  return below.length === parts.length ? names : null;
}

function rebuild({ path }: Endpoint, names: readonly string[]): string {
  const encoded = names.map(encodeURIComponent);
  return path.replace(/\{(id|model)\}/, encoded.join('/'));
}

function refuse(
  method: string,
  path: string,
  below: readonly string[] | null,
  matches: readonly Endpoint[],
): Refusal {
  const known = below === null ? path : `/v1/${below.join('/')}`;
  const shown = `${method} ${known.slice(0, MAX_SHOWN_PATH)}`;
  const refused = REFUSED.find((each) => known === each.path || known.startsWith(`${each.path}/`));
  if (matches.length > 0) {
    const allow = [...new Set(matches.map((each) => each.method))];
    return new Refusal('method_not_allowed', `${shown}: this path allows ${allow.join(', ')}`, {
      headers: { allow: allow.join(', ') },
    });
  }
  if (refused !== undefined) {
    const message = `${shown}: ${refused.name} is not served by this gateway: ${refused.why}`;
    return new Refusal('not_supported', message);
  }
  return new Refusal('not_found', `there is nothing at ${shown}; ${suggest(known)}`);
}

/** The path that was probably meant, or all there are. */
function suggest(path: string): string {
  const meant = ENDPOINTS.find(
    (each) => !each.path.includes('{') && `${path}/`.endsWith(`${each.path.slice(3)}/`),
  );
  if (meant !== undefined) return `did you mean ${meant.method} ${meant.path}?`;
  const all = ENDPOINTS.map((each) => `${each.method} ${each.path}`);
  return `this gateway serves ${all.join(', ')}`;
}

function invalidPath(problem: string): Refusal {
  return new Refusal('invalid_request', `the path of the request ${problem}`, { param: 'path' });
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
}
