/** A node of `explain (analyze, format json)`. */
export interface PlanNode {
  'Actual Loops': number;
  'Actual Rows': number;
  'Rows Removed by Join Filter'?: number;
  'Rows Removed by Filter'?: number;
  Plans?: PlanNode[];
}

/** Rows that a node looked at: those it gave, and those it left out. */
export const looksOf = (node: PlanNode): number =>
  node['Actual Loops'] *
    (node['Actual Rows'] +
      (node['Rows Removed by Join Filter'] ?? 0) +
      (node['Rows Removed by Filter'] ?? 0)) +
  (node.Plans ?? []).reduce((sum, each) => sum + looksOf(each), 0);
