/** Whether a key can be sent as `Bearer <key>`: visible ASCII, without blanks and line ends. */
export function isKeyOfHeader(key: string): boolean {
  return /^[\x21-\x7e]+$/.test(key);
}

export const NO_KEY_OF_HEADER =
  'has a blank, a line end or another character that no header carries as part of a key: remove it';
