import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import type { UsageMetadata } from '../../record/types.js';
import type { ReadClientAddress } from './clientAddress.js';

/** Lengths that the ledger takes; what is longer is cut, not refused. */
const MAX_LOOKUP_LENGTH = 512;
const MAX_TEXT_LENGTH = 1024;

/** What the headers say of a request; nothing of its content. */
export function readRequestMetadata(
  request: IncomingMessage,
  readClientAddress: ReadClientAddress,
): UsageMetadata {
  const { headers } = request;
  return {
    http_user_agent: read(headers, 'user-agent', MAX_LOOKUP_LENGTH),
    http_ip: readClientAddress(
      request.socket.remoteAddress,
      read(headers, 'x-forwarded-for', MAX_TEXT_LENGTH) ?? undefined,
    ),
    feature: read(headers, 'x-microdollar-feature', MAX_LOOKUP_LENGTH),
    mode: read(headers, 'x-microdollar-mode', MAX_LOOKUP_LENGTH),
    session_id: read(headers, 'x-microdollar-session-id', MAX_TEXT_LENGTH),
  };
}

function read(headers: IncomingHttpHeaders, name: string, maxLength: number): string | null {
  const value = headers[name];
  return typeof value === 'string' && value !== '' ? value.slice(0, maxLength) : null;
}
