/** What the exit of this process must not leave undone. Synchronous: nothing is awaited then. */
const duties = new Set<() => void>();
let handled = false;

/** Returns a function that takes the duty back. */
export function doAtExit(duty: () => void): () => void {
  duties.add(duty);
  if (!handled) {
    handled = true;
    process.on('exit', () => {
      for (const due of duties) due();
    });
  }
  return () => duties.delete(duty);
}
