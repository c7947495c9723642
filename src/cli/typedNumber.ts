/** A number as typed; NaN where there is none: an empty variable of a shell is no 0. */
export function typedNumber(text: string): number {
  return text.trim() === '' ? Number.NaN : Number(text);
}
