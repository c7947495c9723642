import type { Answer } from '../answer.js';
import { Author } from '../author.js';
import { text, thinking, toolUse } from './blocks.js';
import { type Kind, MESSAGE_KINDS } from './kinds.js';
import { type Content, MessageAnswer } from './message.js';

export function makeMessagesAnswers(): Answer[] {
  return [...Object.entries(MESSAGE_KINDS).flatMap(makeBoth), makeRepeated(), makeSpliced()];
}

function makeBoth([name, kind]: [string, Kind]): Answer[] {
  const author = new Author(`anthropic-messages ${name}`);
  const message = new MessageAnswer(author, kind(author));
  return [
    streamOf(name, message, message.events()),
    {
      api: 'anthropic-messages',
      name,
      streamed: false,
      payloads: [JSON.stringify(message.body())],
      usage: message.usage,
    },
  ];
}

/** The start of the stream twice, as some proxies send it. */
function makeRepeated(): Answer {
  const author = new Author('anthropic-messages repeated-start');
  const message = new MessageAnswer(author, { blocks: [text(author, 6)], style: 'bare' });
  return streamOf('repeated-start', message, [message.start(), ...message.events()]);
}

/** A stream that breaks off amid a block and begins anew, as after a provider's own retry. */
function makeSpliced(): Answer {
  const author = new Author('anthropic-messages spliced-start');
  const attempt = (more: Partial<Content>) =>
    new MessageAnswer(author, {
      blocks: [thinking(author, 5), toolUse(author)],
      stopReason: 'tool_use',
      ...more,
    });
  // What the first one says of the cache is not said of the second.
  const first = attempt({ cacheRead: 1_024, cacheWrite5m: 2_048 });
  const second = attempt({ style: 'bare' });
  const brokenOff = first.events().slice(0, -5);
  return streamOf('spliced-start', second, [...brokenOff, ...second.events()]);
}

function streamOf(name: string, message: MessageAnswer, events: object[]): Answer {
  return {
    api: 'anthropic-messages',
    name,
    streamed: true,
    payloads: events.map((event) => JSON.stringify(event)),
    usage: message.usage,
  };
}
