import { type Answer, WIRE_PATHS, type WireApi } from './answer.js';
import { makeMessagesAnswers } from './messages/index.js';
import { makeChatAnswers } from './openaiChat.js';
import { makeResponsesAnswers } from './responses/index.js';

export * from './answer.js';

/**
 * Answers of this project's own making, of every shape that providers document: generated, the same
 * in every run. What real providers sent is read by `test/realInputs`.
 */
export const ANSWERS: readonly Answer[] = [
  ...makeChatAnswers(),
  ...makeResponsesAnswers(),
  ...makeMessagesAnswers(),
];

export function findAnswer(api: WireApi, name: string, streamed: boolean): Answer {
  const answer = ANSWERS.find(
    (each) => each.api === api && each.name === name && each.streamed === streamed,
  );
  if (answer === undefined) throw new Error(`no answer ${WIRE_PATHS[api]} ${name}, ${streamed}`);
  return answer;
}
