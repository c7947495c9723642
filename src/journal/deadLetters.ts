import path from 'node:path';
import { type FileSystem, nodeFileSystem } from './fileSystem.js';
import { DEAD_LETTER_FILE, listSlots, slotDirectory } from './slots.js';

/** An event that the database refused for good; kept until someone resolves it. */
export interface DeadLetter<Event = unknown> {
  /** Of the event: its idempotency key. */
  id: string;
  /** ISO 8601; when it was refused. */
  at: string;
  /** Error code. */
  reason: string;
  message: string;
  event: Event;
}

type Line = ({ kind: 'dead_letter' } & DeadLetter) | { kind: 'resolved'; id: string; at: string };

/**
 * The dead letters of one slot: a JSONL file. A letter is a line, its resolution another one, so
 * that a second process (a command) may resolve while the owner of the slot appends. One letter
 * an event: the newest counts. Compacted by the owner alone.
 */
export class DeadLetterFile<Event = unknown> {
  readonly #path: string;
  readonly #fileSystem: FileSystem;
  #chain: Promise<unknown> = Promise.resolve();
  #endsWithNewline = false;
  #appends = 0;

  constructor(directory: string, fileSystem: FileSystem = nodeFileSystem) {
    this.#path = path.join(directory, DEAD_LETTER_FILE);
    this.#fileSystem = fileSystem;
  }

  /** By this object; tells whether there may be new letters. */
  get appends(): number {
    return this.#appends;
  }

  /** Durable when it resolves. */
  add(letters: readonly DeadLetter<Event>[]): Promise<void> {
    return this.#append(letters.map((letter) => ({ kind: 'dead_letter', ...letter })));
  }

  resolve(ids: readonly string[], now = new Date()): Promise<void> {
    const at = now.toISOString();
    return this.#append(ids.map((id) => ({ kind: 'resolved', id, at })));
  }

  /** Unresolved ones, oldest first, and the number of lines that are not legible. */
  async read(): Promise<{ letters: DeadLetter<Event>[]; illegibleLines: number }> {
    const text = (await this.#fileSystem.readFile(this.#path))?.toString() ?? '';
    const letters = new Map<string, DeadLetter<Event>>();
    let illegibleLines = 0;
    for (const line of text.split('\n')) {
      if (line.trim() === '') continue;
      const parsed = parseLine(line);
      if (parsed === null) illegibleLines++;
      else if (parsed.kind === 'resolved') letters.delete(parsed.id);
      else {
        const { kind: _, ...letter } = parsed;
        letters.set(letter.id, letter as DeadLetter<Event>);
      }
    }
    return { letters: [...letters.values()], illegibleLines };
  }

  /**
   * Rewrites the file with the unresolved letters, each as `edit` returns it, so that personal
   * data does not outlive its reason (I11). Illegible lines are kept: they may be a letter.
   */
  compact(edit: (letter: DeadLetter<Event>) => DeadLetter<Event>): Promise<void> {
    return this.#exclusively(async () => {
      const text = (await this.#fileSystem.readFile(this.#path))?.toString() ?? '';
      if (text === '') return;
      const { letters } = await this.read();
      const illegible = text
        .split('\n')
        .filter((line) => line.trim() !== '' && parseLine(line) === null);
      const lines = letters.map((letter) =>
        JSON.stringify({ kind: 'dead_letter', ...edit(letter) }),
      );
      const compacted = [...illegible, ...lines].map((line) => `${line}\n`).join('');
      if (compacted === '') await this.#fileSystem.remove(this.#path);
      else if (compacted !== text) {
        await this.#fileSystem.replace(this.#path, Buffer.from(compacted));
      }
      this.#endsWithNewline = true;
    });
  }

  /** Takes over another slot's letters; that slot must be ours too. */
  absorb(other: DeadLetterFile<Event>): Promise<void> {
    return this.#exclusively(async () => {
      const text = (await this.#fileSystem.readFile(other.#path))?.toString() ?? '';
      if (text.trim() !== '') await this.#appendText(text.endsWith('\n') ? text : `${text}\n`);
      // Killed before this, both have them: the newest of an id counts.
      await this.#fileSystem.remove(other.#path);
    });
  }

  #append(lines: readonly Line[]): Promise<void> {
    return this.#exclusively(async () => {
      if (lines.length === 0) return;
      await this.#appendText(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    });
  }

  async #appendText(text: string): Promise<void> {
    // A crash may have cut the last line short: it must not swallow this one.
    const separator = this.#endsWithNewline ? '' : await this.#separator();
    this.#endsWithNewline = false;
    await this.#fileSystem.append(this.#path, Buffer.from(separator + text));
    this.#endsWithNewline = true;
    this.#appends++;
  }

  async #separator(): Promise<string> {
    const content = await this.#fileSystem.readFile(this.#path);
    return content === null || content.length === 0 || content.at(-1) === 10 ? '' : '\n';
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#chain.then(work);
    this.#chain = result.catch(() => {});
    return result;
  }
}

/** Unresolved dead letters of every slot of a journal root, oldest first. */
export async function readDeadLetters<Event = unknown>(
  root: string,
  fileSystem: FileSystem = nodeFileSystem,
): Promise<DeadLetter<Event>[]> {
  const letters: DeadLetter<Event>[] = [];
  for (const index of await listSlots(root, fileSystem)) {
    const file = new DeadLetterFile<Event>(slotDirectory(root, index), fileSystem);
    letters.push(...(await file.read()).letters);
  }
  return letters.sort((a, b) => a.at.localeCompare(b.at));
}

function parseLine(line: string): Line | null {
  try {
    const parsed = JSON.parse(line) as Line;
    return typeof parsed.id === 'string' ? parsed : null;
  } catch {
    return null;
  }
}
