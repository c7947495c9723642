/**
 * Spreadsheets run text that begins like this as a formula (OWASP, CSV injection): also with signs of
 * full width, where the language has them, and after a line end.
 */
const FORMULA_START = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;

/** Text that a spreadsheet shows as it is. */
export function guardText(text: string): string {
  return FORMULA_START.test(text) ? `'${text}` : text;
}
