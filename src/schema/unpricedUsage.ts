/**
 * Usage without a price (`unpriced`) stays open until a later correction of the same usage row has
 * one, or takes its place without one. A refund does neither, whatever it names. Defined once: late
 * pricing, the archive and the console must not differ about it.
 *
 * SQL conditions; `later` and `unpriced` are aliases of `microdollar_usage_metadata`.
 */
export const closesUnpriced = (later: string, unpriced: string) =>
  `${later}.adjusts_usage_id = coalesce(${unpriced}.adjusts_usage_id, ${unpriced}.id)
    and coalesce(${later}.correction_number, 1) > coalesce(${unpriced}.correction_number, 0)
    and (${later}.price_source is not null or ${later}.unpriced)`;

/**
 * Usage that was charged without a part that had no price, and that says what one depends on. No index
 * has it: whoever looks reads the table.
 */
export const isOpenIncomplete = (row: string) => `${row}.estimated = 'incomplete'
    and ${row}.unpriced is not true
    and ${row}.adjusts_usage_id is null
    and ${row}.usage_details ? 'price'
    and not exists (
      select from microdollar_usage_metadata as later
      where ${closesUnpriced('later', row)}
    )`;

/** Usage without a price that is still open. */
export const isOpenUnpriced = (row: string) => `${row}.unpriced
    and not exists (
      select from microdollar_usage_metadata as later
      where ${closesUnpriced('later', row)}
    )`;

/** Of the usage row with this id: whether it waits for a price. */
export const waitsForPrice = (id: string) => `coalesce((
    select ${isOpenUnpriced('m')}
    from microdollar_usage_metadata as m
    where m.id = ${id}
  ), false)`;
