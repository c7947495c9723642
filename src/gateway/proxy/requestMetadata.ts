import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { LedgerError } from '../../errors.js';
import type { UsageMetadata } from '../../record/types.js';
import type { ReadClientAddress } from './clientAddress.js';

/** Lengths that the ledger takes; what is longer is cut, not refused. */
const MAX_LOOKUP_LENGTH = 512;
const MAX_TEXT_LENGTH = 1024;
/** Of what says for whom a request is: what is longer is refused, for cut it would be another. */
const MAX_NAME_LENGTH = 256;
const MAX_PROJECT_LENGTH = 512;
const MAX_TAG_LENGTH = 64;
const MAX_TAGS = 16;

/**
 * What the headers say of a request; nothing of its content.
 * @throws LedgerError `invalid_request` for a header of attribution that is too long
 */
export function readRequestMetadata(
  request: IncomingMessage,
  readClientAddress: ReadClientAddress,
): UsageMetadata {
  const { headers } = request;
  const endUser = readName(headers, 'x-microdollar-end-user', MAX_NAME_LENGTH);
  const tags = readTags(headers);
  return {
    http_user_agent: read(headers, 'user-agent', MAX_LOOKUP_LENGTH),
    http_ip: readClientAddress(
      request.socket.remoteAddress,
      read(headers, 'x-forwarded-for', MAX_TEXT_LENGTH) ?? undefined,
    ),
    feature: read(headers, 'x-microdollar-feature', MAX_LOOKUP_LENGTH),
    mode: read(headers, 'x-microdollar-mode', MAX_LOOKUP_LENGTH),
    session_id:
      readName(headers, 'x-microdollar-session', MAX_NAME_LENGTH) ??
      read(headers, 'x-microdollar-session-id', MAX_TEXT_LENGTH),
    // Absent, the body's own user stands.
    ...(endUser === null ? {} : { end_user: endUser }),
    ...(tags.length === 0 ? {} : { tags }),
  };
}

/** @throws LedgerError `invalid_request` */
export function readProject(headers: IncomingHttpHeaders): string | null {
  return (
    readName(headers, 'x-microdollar-project', MAX_PROJECT_LENGTH) ??
    readName(headers, 'x-microdollar-project-id', MAX_PROJECT_LENGTH)
  );
}

/** Texts with commas between. */
function readTags(headers: IncomingHttpHeaders): string[] {
  const name = 'x-microdollar-tags';
  const value = headers[name];
  if (typeof value !== 'string') return [];
  const tags = value
    .split(',')
    .map((tag) => tag.trim())
    .filter((tag) => tag !== '');
  if (tags.length > MAX_TAGS) {
    throw invalid(name, `must hold at most ${MAX_TAGS} texts, holds ${tags.length}`);
  }
  if (tags.some((tag) => tag.length > MAX_TAG_LENGTH)) {
    throw invalid(name, `must hold texts of at most ${MAX_TAG_LENGTH} characters`);
  }
  return tags;
}

function readName(headers: IncomingHttpHeaders, name: string, maxLength: number): string | null {
  const value = headers[name];
  if (typeof value !== 'string' || value === '') return null;
  if (value.length > maxLength) {
    throw invalid(name, `must have at most ${maxLength} characters, has ${value.length}`);
  }
  return value;
}

function invalid(name: string, problem: string): LedgerError {
  return new LedgerError('invalid_request', `the header ${name} ${problem}`, {
    details: { field: name },
  });
}

function read(headers: IncomingHttpHeaders, name: string, maxLength: number): string | null {
  const value = headers[name];
  return typeof value === 'string' && value !== '' ? value.slice(0, maxLength) : null;
}
