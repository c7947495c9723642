/**
 * Spreadsheets run text that begins like this as a formula (OWASP, CSV injection): also with signs of
 * full width, where the language has them, after a line end, and after blanks, which some leave out.
 */
const FORMULA_START = /^'*(?:[\t\r\n]|\s*[=+\-@\uff1d\uff0b\uff0d\uff20])/;

/**
 * Text that a spreadsheet shows as it is. What looks guarded gets one more apostrophe, so that `unguardText`
 * has every text back.
 */
export function guardText(text: string): string {
  return FORMULA_START.test(text) ? `'${text}` : text;
}

/** The text that `guardText` was given. */
export function unguardText(text: string): string {
  return text.startsWith("'") && FORMULA_START.test(text) ? text.slice(1) : text;
}

/** Of nothing, or of apostrophes alone: in a CSV cell nothing is null. */
const EMPTY = /^'*$/;

/** As `guardText`, where an empty cell is null: the empty text is an apostrophe. */
export function guardCell(text: string): string {
  return EMPTY.test(text) ? `'${text}` : guardText(text);
}

/** The text that `guardCell` was given. */
export function unguardCell(cell: string): string {
  return EMPTY.test(cell) ? cell.slice(1) : unguardText(cell);
}
