import type { Facts } from './types.js';

/** Headers of requests, beside `authorization`. */
export const REQUEST_HEADERS: Readonly<Record<string, string>> = {
  'x-request-id':
    'Any name of the request, 1-100 of `A-Za-z0-9_.:-`: in the answer and in the log.',
  'x-microdollar-organization-id':
    'Gateway: the organization that pays. Default: that of the key, else the user.',
  'x-microdollar-feature': 'Gateway: stored as `metadata.feature`.',
  'x-microdollar-mode': 'Gateway: stored as `metadata.mode`.',
  'x-microdollar-end-user': "Gateway: the application's own user, at most 256 characters.",
  'x-microdollar-session': "Gateway: the application's own session, at most 256 characters.",
  'x-microdollar-session-id':
    'Gateway: another name of `x-microdollar-session`; cut where too long.',
  'x-microdollar-project': 'Gateway: stored as `project_id`, at most 512 characters.',
  'x-microdollar-project-id': 'Gateway: another name of `x-microdollar-project`.',
  'x-microdollar-tags': 'Gateway: up to 16 texts of at most 64 characters, with commas between.',
};

/** Headers of answers. */
export const RESPONSE_HEADERS: Readonly<Record<string, string>> = {
  'x-request-id':
    'The name of the request, yours or a new one; of the gateway the provider’s, if it has one.',
  'retry-after':
    'Seconds until the same request may succeed: of 503, and of 429. Sending it again is ' +
    'always safe with the same ids.',
  'www-authenticate': 'Of 401: `Bearer`.',
  allow: 'Of 405: the methods that the path has.',
  'x-microdollar-source':
    'Which source answered a read, and as of when: `rollup; server=primary; as-of=...`.',
  'x-microdollar-request-id': 'Gateway: our name of the request, as in our log.',
  'x-microdollar-usage-id': 'Gateway: the id of the usage row.',
  'x-microdollar-output-limit':
    'Gateway: the limit of output, lowered to what is left of a budget.',
  'x-microdollar-budget-id': 'Gateway, of 402 and 429: the budget that refused.',
  'x-microdollar-available-microdollars': 'Gateway, of 402 and 429: what is left of it.',
  'x-microdollar-resets-at': 'Gateway, of 429: when it resets, ISO 8601.',
  'x-should-retry': 'Gateway: `false` where a second try cannot change the answer.',
};

export function listHeaders(): Facts['headers'] {
  const list = (headers: Readonly<Record<string, string>>, where: 'request' | 'response') =>
    Object.entries(headers).map(([name, description]) => ({ name, in: where, description }));
  return [...list(REQUEST_HEADERS, 'request'), ...list(RESPONSE_HEADERS, 'response')];
}
