/**
 * The client's path and query behind the provider's prefix. A parameter that repeats the client's
 * key stays here.
 */
export function toUpstreamPath(pathPrefix: string, url: string, token: string): string {
  const [path = '', query] = splitOnce(url, '?');
  if (query === undefined || query === '') return `${pathPrefix}${path}`;
  const isSafe = (parameter: string) => token === '' || !decode(parameter).includes(token);
  const passed = query.split('&').filter(isSafe).join('&');
  return passed === '' ? `${pathPrefix}${path}` : `${pathPrefix}${path}?${passed}`;
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
