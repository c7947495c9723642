/** One JSON object of a line. @param what is expected there, for the problem */
export function readJsonObject(
  text: string,
  what: string,
): { value: Record<string, unknown> } | { problem: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { problem: 'is not JSON' };
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { problem: `is not a JSON object: expected one ${what} a line` };
  }
  return { value: value as Record<string, unknown> };
}
