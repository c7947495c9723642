/** `POST /v1/chat/completions`, `/v1/responses`, `/v1/messages`. */
export type WireFormat = 'openai-chat' | 'openai-responses' | 'anthropic-messages';

/**
 * Tokens of one model, as they are priced. `inputTokens` counts every prompt token and
 * `outputTokens` every generated one; all the others are parts of these two, never more.
 */
export interface TokenCounts {
  inputTokens: number;
  outputTokens: number;
  cacheHitTokens: number;
  /** Parts of `cacheHitTokens`. */
  cacheAudioTokens: number;
  cacheImageTokens: number;
  /** With every lifetime. */
  cacheWriteTokens: number;
  /** Part of `cacheWriteTokens`: kept for an hour (Anthropic). */
  cacheWrite1hTokens: number;
  /** Not from a cache, as those of images. */
  inputAudioTokens: number;
  inputImageTokens: number;
  outputAudioTokens: number;
  outputImageTokens: number;
}

/** Usage that the answer reports beside its own, since another model did it (an advisor). */
export interface OtherModelUsage {
  model: string;
  /** That used the model: `image_generation`. Absent: an advisor. */
  tool?: string;
  tokens: TokenCounts;
}

/**
 * What one answer says of its usage. Null = not said. `cacheWriteTokens + cacheHitTokens` never
 * exceeds `inputTokens`.
 */
export interface UsageReading extends Omit<TokenCounts, 'inputTokens' | 'outputTokens'> {
  inputTokens: number | null;
  outputTokens: number | null;
  reasoningTokens: number | null;
  /** `final`: the answer's own totals. `partial`: the answer broke off before them. */
  usage: 'final' | 'partial' | 'missing';
  /** All tokens, where the answer says only that. */
  totalTokens: number | null;
  /** Priced apart; not in the counts above. */
  otherModels: readonly OtherModelUsage[];
  /** Searches that the provider made and charges for, each. */
  webSearches: number;
  fileSearches: number;
  /** Whatever else is charged by number, by its name in the prices: `code_sessions`, ... */
  charges: Readonly<Record<string, number>>;
  /** Read by the provider from what it found (Perplexity); in no count above. */
  citationTokens: number;
  /**
   * What cannot be relied on: `total_tokens` (parts do not add up to it), `reasoning_tokens`,
   * `charge:<name>` (charged, and how much is not said).
   */
  doubts: readonly string[];
  /** USD as the provider reported it: decimal text, exactly as sent. */
  costUsd: string | null;
  /** USD that the operator's own key at the inference provider pays, beside `costUsd`. */
  upstreamCostUsd: string | null;
  isByok: boolean | null;
  /** `default`, `flex`, `priority`, `standard`, ... */
  serviceTier: string | null;
  /** `fast` (Anthropic). */
  speed: string | null;
  /** Where the answer was made, where that has a price: `us` (Anthropic's `inference_geo`). */
  region: string | null;
  /** `low`, `medium`, `high` (Perplexity's fee for a request). */
  searchContext: string | null;
  /** That answered. */
  model: string | null;
  finishReason: string | null;
  /** The model declined, and its own tokens are not billed; other models and tools are. */
  isUnbilled?: boolean;
  messageId: string | null;
  /** Of a response: the provider's names of its items, which it may keep. */
  itemIds: readonly string[];
  /** Type or code of the error in the body or amid the stream; never its message. */
  error: string | null;
  /** The terminal event, or the whole body, was seen. */
  complete: boolean;
  /** Of the choices of a chat stream, those that ended; null where there are none to count. */
  endedChoices: number | null;
  /** Events, or bodies, that could not be read. */
  malformedChunks: number;
  /** A fault of ours met one of them: a line for the log, and a defect to report. */
  failure?: Error;
  /** Behind a router such as OpenRouter. */
  inferenceProvider: string | null;
  /** UTF-8 bytes of text, reasoning and tool arguments in the answer, for an estimate. */
  outputBytes: number;
  /** Of those, reasoning. */
  reasoningBytes: number;
}

/** Reads a copy of an answer's bytes. Never throws, whatever comes; memory is bounded. */
export interface UsageReader {
  push(bytes: Uint8Array): void;
  /** What is known so far and, with this, for good. */
  end(): UsageReading;
  /** Streamed: text, reasoning or a tool call has come. Whole: any byte. */
  readonly sawFirstToken: boolean;
  /** The provider's name for a streamed answer, as soon as an event said it. */
  readonly messageId: string | null;
  /** Streamed: UTF-8 bytes of text, reasoning and tool arguments so far. */
  readonly outputBytes?: number;
}

/** An item of the input that has a name. */
export interface NamedItem {
  id: string;
  /** Its content is with the provider alone. */
  isReference: boolean;
}

/** What a request says, for the intent, the metadata and an estimate. */
export interface PreparedRequest {
  format: WireFormat;
  /** For the provider: the client's own bytes, or with `include_usage` put in. */
  body: Buffer;
  /** The client did not ask for the chat stream's usage chunk. */
  hideUsageChunk: boolean;
  requestedModel: string | null;
  streamed: boolean;
  /** The request's limit of output tokens. */
  maxTokens: number | null;
  hasTools: boolean;
  /** Answers asked for (`n`); vectors and ranks are none. */
  choices: number;
  /** What it asks for are images. */
  draws?: boolean;
  /** The model may think before it answers, unseen: the request, or its name, says so. */
  reasons: boolean;
  /** Answered at once, and made then (Responses); whatever a provider may take for yes. */
  background: boolean;
  /** Made later, and fetched elsewhere (xAI's chat). */
  deferred: boolean;
  /** The response that it goes on from (Responses). */
  previousResponseId: string | null;
  /** Items that it names, with or without their content (Responses). */
  items: readonly NamedItem[];
  /** The provider may keep the response, for others to go on from (Responses). */
  keepsResponse: boolean;
  /** From bytes of text; exact counts come with the answer. */
  inputTokensEstimate: number;
  /** The application's own user, for whom it asks. */
  endUser: string | null;
  /** First characters of the last user message. Never store it for an organization. */
  userPromptPrefix: string | null;
  systemPromptPrefix: string | null;
  /** Characters. */
  systemPromptLength: number | null;
}

/** Splits a stream into what may be sent now and what waits until the usage is durable. */
export interface StreamGate {
  /** Bytes to send now, in order; with `held`, all that came, less the hidden chunk. */
  push(bytes: Uint8Array): Uint8Array[];
  /** What waits. Call once, after the last byte. */
  held(): Uint8Array;
  /** The terminal event has come; what follows it is held too. */
  readonly sawTerminal: boolean;
}
