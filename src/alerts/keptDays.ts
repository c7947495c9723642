/** How long what was told is kept, days. */
export const DEFAULT_KEPT_DAYS = 90;
