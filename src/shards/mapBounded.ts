/** The same for each, the answers in their order, at most `bound` under way at a time. */
export async function mapBounded<T, R>(
  items: readonly T[],
  bound: number,
  run: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const waiting = [...items.entries()];
  const work = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const [index, item] = next;
      results[index] = await run(item, index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(bound, items.length) }, work));
  return results;
}
