/** How many names are listed of what a file may have any number of. */
const MAX_LISTED = 20;
/** Decimal places in which costs are summed; beyond, a double has no digits that mean anything. */
const USD_PLACES = 30;

/** What importing another product's export says of its mapping, beyond what became of the rows. */
export interface MappingReport {
  /** Columns that are not known: nothing of them was read. */
  unknown_columns: string[];
  /** Columns that are known, and that an event has no place for. */
  unused_columns: string[];
  /** Sum of the costs as the files have them, USD, exact. */
  source_cost_usd: string;
  /** Rows whose cost is not 0, and less than half a microdollar: recorded as 0. */
  rounded_to_zero: number;
  /** Rows with tokens and a cost of 0, where no cache answered and nothing failed, by model. */
  without_cost: { model: string | null; rows: number }[];
  /** Keys of the other product, and the `api_key_id` that stands for each. */
  keys: { name: string; api_key_id: string; rows: number }[];
  /** What was left out of rows that are recorded, by reason. */
  left_out: { what: string; rows: number }[];
}

/** Collects them while rows are read; bounded, however long the file is. */
export class ImportNotes {
  readonly #unknown: string[] = [];
  readonly #unused: string[] = [];
  readonly #withoutCost = new Tally<string | null>();
  readonly #keys = new Tally<string>();
  readonly #keyNames = new Map<string, string>();
  readonly #leftOut = new Tally<string>();
  #roundedToZero = 0;
  #usd = 0n;

  unknownColumn(name: string): void {
    if (this.#unknown.length < MAX_LISTED) this.#unknown.push(name.slice(0, 100));
  }

  unusedColumn(name: string): void {
    if (this.#unused.length < MAX_LISTED) this.#unused.push(name.slice(0, 100));
  }

  /** A cost as the file has it, and what it became. */
  cost(usd: string, costMicrodollars: number): void {
    const exact = toScaled(usd);
    this.#usd += exact;
    if (costMicrodollars === 0 && exact !== 0n) this.#roundedToZero += 1;
  }

  withoutCost(model: string | null): void {
    this.#withoutCost.add(model);
  }

  key(name: string, apiKeyId: string): void {
    this.#keys.add(apiKeyId);
    if (this.#keyNames.size < MAX_LISTED) this.#keyNames.set(apiKeyId, name);
  }

  leftOut(what: string): void {
    this.#leftOut.add(what);
  }

  report(): MappingReport {
    return {
      unknown_columns: this.#unknown,
      unused_columns: this.#unused,
      source_cost_usd: fromScaled(this.#usd),
      rounded_to_zero: this.#roundedToZero,
      without_cost: this.#withoutCost.largest().map(([model, rows]) => ({ model, rows })),
      keys: this.#keys
        .largest()
        .map(([id, rows]) => ({ name: this.#keyNames.get(id) ?? '', api_key_id: id, rows })),
      left_out: this.#leftOut.largest().map(([what, rows]) => ({ what, rows })),
    };
  }
}

/** How often each was seen, of the first thousand. */
class Tally<T> {
  readonly #counts = new Map<T, number>();

  add(what: T): void {
    if (this.#counts.size < 1_000 || this.#counts.has(what)) {
      this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
    }
  }

  largest(): [T, number][] {
    return [...this.#counts].sort(([, a], [, b]) => b - a).slice(0, MAX_LISTED);
  }
}

/** A decimal, checked before (`toMicrodollars`), times 10^30. */
function toScaled(usd: string): bigint {
  const [, sign, whole = '', fraction = '', exponent = '0'] =
    /^([+-]?)(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?$/i.exec(usd.trim()) ?? [];
  const shift = USD_PLACES + Number(exponent) - fraction.length;
  const digits = BigInt(whole + fraction || '0');
  const size = shift >= 0 ? digits * 10n ** BigInt(shift) : digits / 10n ** BigInt(-shift);
  return sign === '-' ? -size : size;
}

function fromScaled(amount: bigint): string {
  const size = amount < 0n ? -amount : amount;
  const unit = 10n ** BigInt(USD_PLACES);
  const fraction = String(size % unit)
    .padStart(USD_PLACES, '0')
    .replace(/0+$/, '');
  return `${amount < 0n ? '-' : ''}${size / unit}${fraction === '' ? '' : `.${fraction}`}`;
}
