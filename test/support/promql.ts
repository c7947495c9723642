import type { SyntaxNode } from '@lezer/common';
import { parser } from '@prometheus-io/lezer-promql';

/** A vector that an expression reads. */
export interface Selector {
  metric: string;
  labels: string[];
  /** The function that it is the argument of, with its range; null: none. */
  rangeFunction: string | null;
}

/** What an expression reads, and by which labels it groups or joins. */
export interface Reads {
  selectors: Selector[];
  groupings: { labels: string[]; metrics: string[] }[];
}

/** @throws Error naming the place where it is no PromQL */
export function readPromQl(expression: string): Reads {
  const text = (node: SyntaxNode) => expression.slice(node.from, node.to);
  const tree = parser.parse(expression);
  const reads: Reads = { selectors: [], groupings: [] };
  tree.iterate({
    enter(ref) {
      const { node } = ref;
      if (node.type.isError) {
        throw new Error(`no PromQL at character ${node.from}: ${expression}`);
      }
      if (node.name === 'VectorSelector') {
        reads.selectors.push({
          metric: text(node.getChild('Identifier') ?? node),
          labels: namesIn(node, 'LabelName', text),
          rangeFunction: rangeFunctionOf(node, text),
        });
      }
      if (node.name === 'AggregateExpr') {
        const modifier = node.getChild('AggregateModifier');
        const labels = modifier === null ? [] : namesIn(modifier, 'LabelName', text);
        const metrics = namesIn(node, 'VectorSelector', text).map(
          (selector) => /^[\w:]+/.exec(selector)?.[0] ?? '',
        );
        reads.groupings.push({ labels, metrics });
      }
    },
  });
  return reads;
}

function namesIn(node: SyntaxNode, name: string, text: (node: SyntaxNode) => string): string[] {
  const names: string[] = [];
  node.cursor().iterate((ref) => {
    if (ref.name === name) names.push(text(ref.node));
  });
  return names;
}

/** `rate`, `increase`, ... of a range of this vector. */
function rangeFunctionOf(node: SyntaxNode, text: (node: SyntaxNode) => string): string | null {
  if (node.parent?.name !== 'MatrixSelector') return null;
  for (let at = node.parent.parent; at !== null; at = at.parent) {
    const identifier = at.getChild('FunctionIdentifier');
    if (identifier !== null) return text(identifier);
  }
  return null;
}
