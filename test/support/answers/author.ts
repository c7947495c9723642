import { createRandom, type Random } from '../random.js';

/** Of everything that is made up here: the same answers in every run. */
const SEED = 20_261_125;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';

/** Scripts of one to four bytes a letter, and what JSON must escape. */
const WORDS =
  'the ledger counts every token once a day rolls up and nothing waits exact größe naïve œuvre ' +
  'счёт мера 帳簿 集計 残高 حساب हिसाब 🙂 👩‍💻 🧾';
/** What a reader that looks for names in the bytes would stumble over. */
const TRAPS = [
  '"usage":{"input_tokens":7,"output_tokens":7,"prompt_tokens":7}',
  '{"type":"message_delta","usage":{"output_tokens":9}}',
  '\\"quoted\\" \\\\ and \u2028 separated',
  'first\n\nsecond\r\nthird\tfourth',
];

/** Writes what a model might: the same for the same stream. */
export class Author {
  readonly #random: Random;

  constructor(stream: string) {
    this.#random = createRandom(SEED, stream);
  }

  /** In [from, until). */
  count(from: number, until: number): number {
    return this.#random.between(from, until);
  }

  /** One piece of text each. */
  tokens(count: number): string[] {
    const words = WORDS.split(' ');
    return Array.from({ length: count }, (_, index) => {
      const isTrap = this.#random.next() < 0.04;
      const word = this.#random.pick(isTrap ? TRAPS : words);
      return index === 0 ? word : ` ${word}`;
    });
  }

  text(tokens: number): string {
    return this.tokens(tokens).join('');
  }

  id(prefix: string, length = 24): string {
    const letters = Array.from({ length }, () => this.#random.pick([...ALPHABET]));
    return prefix + letters.join('');
  }

  /** A text as a stream brings it; the pieces of one character now and then. */
  pieces(text: string): string[] {
    const letters = [...text];
    const pieces: string[] = [];
    while (letters.length > 0) pieces.push(letters.splice(0, this.count(1, 14)).join(''));
    return pieces;
  }
}
