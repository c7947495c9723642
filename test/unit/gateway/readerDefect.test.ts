import { expect, it } from 'vitest';
import { emptyDraft, type FormatReader } from '../../../src/gateway/processUsage/draft.js';
import { readWith } from '../../../src/gateway/processUsage/reader.js';

/** What throws where no reader of a format is asked, as at the salvage of a long event. */
it.each([
  [true, 'data: {"bad":1}\n\ndata: {"good":1}\n\n', 1],
  [true, '{"bad":1}', 0],
  [false, '{"bad":1}', 0],
])(
  'a defect beside the readers costs its payload alone (streamed: %s, %s)',
  (streamed, text, good) => {
    let read = 0;
    const take = (payload: object) => {
      if ('bad' in payload) throw new TypeError('planted defect');
      read++;
    };
    const draft = emptyDraft();
    const format: FormatReader = { draft, sawFirstToken: false, event: take, body: take };
    const reader = readWith(format, { streamed });
    reader.push(Buffer.from(text));
    const reading = reader.end();
    expect(read).toBe(good);
    expect(reading.failure?.message).toBe('planted defect');
    expect(reading).toMatchObject({ malformedChunks: 1, doubts: ['unread'] });
  },
);
