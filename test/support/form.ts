/**
 * What is random, or repeats a thing for luck, has two forms, of the same kinds: a short one, of `npm test`, and
 * the full one of `.ci/run`.
 */
export const IS_FULL = Boolean(process.env.MICRODOLLAR_TEST_ALL);

export function inForm<Size>(short: Size, full: Size): Size {
  return IS_FULL ? full : short;
}
