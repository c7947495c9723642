export interface Layer {
  key: string;
  /** Of the style sheet: `layer-1` and so on. */
  className: string;
  /** One a bar; negative ones hang below zero. */
  values: readonly number[];
}
