/** A defect to plant: `search` is in `file` exactly once. */
export interface Mutant {
  name: string;
  /** From the root of the project. */
  file: string;
  search: string;
  replace: string;
  /** Files that must see it, below `test/` and without `.test.ts`. */
  tests: readonly string[];
  /** Why no test can tell it from the original; kept as a remark on the original. */
  changesNothing?: string;
}
