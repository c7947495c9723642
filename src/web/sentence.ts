/** Headings of what has a name in lower case. */
export const capitalized = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

/** The server's messages begin in lower case and end without a stop. */
export function sentence(text: string): string {
  const upper = capitalized(text);
  return /[.!?]$/.test(upper) ? upper : `${upper}.`;
}
