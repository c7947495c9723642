import { Writable } from 'node:stream';
import type { Streams } from '../output.js';

/** What a command wrote on one shard, kept until it is told. */
export class KeptStreams implements Streams {
  readonly #kept: { stream: 'stdout' | 'stderr'; text: string }[] = [];
  readonly stdout = this.#keep('stdout');
  readonly stderr = this.#keep('stderr');

  /** What it wrote on stdout. */
  get answer(): string {
    return this.#kept.map(({ stream, text }) => (stream === 'stdout' ? text : '')).join('');
  }

  /** In the order in which it was written. */
  tell(streams: Streams): void {
    for (const { stream, text } of this.#kept.splice(0)) streams[stream].write(text);
  }

  #keep(stream: 'stdout' | 'stderr'): Writable {
    return new Writable({
      decodeStrings: false,
      write: (text, _encoding, done) => {
        this.#kept.push({ stream, text: String(text) });
        done();
      },
    });
  }
}

/** Each line with the shard before it; JSON lines (of `--progress json`) have it as a field. */
export function namingLines(shard: string, target: NodeJS.WritableStream): Writable {
  let rest = '';
  const toLine = (line: string) =>
    line.startsWith('{"')
      ? `{"shard":${JSON.stringify(shard)},${line.slice(1)}\n`
      : `${shard}: ${line}\n`;
  return new Writable({
    decodeStrings: false,
    write(text, _encoding, done) {
      const lines = (rest + String(text)).split('\n');
      rest = lines.pop() ?? '';
      if (lines.length > 0) target.write(lines.map(toLine).join(''));
      done();
    },
    final(done) {
      if (rest !== '') target.write(toLine(rest));
      done();
    },
  });
}
