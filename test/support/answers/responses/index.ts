import type { Answer } from '../answer.js';
import { Author } from '../author.js';
import { functionCall, message, reasoning } from './items.js';
import { type Kind, RESPONSE_KINDS } from './kinds.js';
import { ResponseAnswer } from './response.js';

export function makeResponsesAnswers(): Answer[] {
  return [...Object.entries(RESPONSE_KINDS).flatMap(makeBoth), makeSeveral()];
}

function makeBoth([name, kind]: [string, Kind]): Answer[] {
  const author = new Author(`openai-responses ${name}`);
  const response = new ResponseAnswer(author, kind(author));
  const common = { api: 'openai-responses' as const, name, usage: response.usage };
  return [
    { ...common, streamed: true, payloads: response.events() },
    { ...common, streamed: false, payloads: [JSON.stringify(response.body('done'))] },
  ];
}

/** Several responses in one stream, as a loop of tools leaves them: the last one counts. */
function makeSeveral(): Answer {
  const kinds: Kind[] = [
    (author) => ({ items: [reasoning(author, 20), functionCall(author)] }),
    (author) => ({ items: [functionCall(author)] }),
    (author) => ({ items: [message(author, 8)] }),
  ];
  const author = new Author('openai-responses several');
  const responses = kinds.map((kind) => new ResponseAnswer(author, kind(author)));
  return {
    api: 'openai-responses',
    name: 'several',
    streamed: true,
    payloads: responses.flatMap((response) => response.events()),
    usage: (responses.at(-1) as ResponseAnswer).usage,
  };
}
