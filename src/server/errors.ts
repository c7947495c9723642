import { type ErrorCode, HTTP_STATUS, LedgerError } from '../errors.js';

export interface HttpFailure {
  status: number;
  body: { error: { code: ErrorCode; message: string; details?: Record<string, unknown> } };
}

/** One event's or one request's error, as every body carries it. */
export function toErrorBody(error: unknown): HttpFailure['body']['error'] {
  if (!(error instanceof LedgerError)) {
    return { code: 'internal', message: 'internal error; the log has it under this request id' };
  }
  const details = { ...error.details, ...(error.retryable ? { retryable: true } : {}) };
  return {
    code: error.code,
    message: error.message,
    ...(Object.keys(details).length === 0 ? {} : { details }),
  };
}

/** Any failure of a request. Fastify's own keep their status (405, 408, 413, 415, ...). */
export function toHttpFailure(error: unknown, bodyLimitBytes: number): HttpFailure {
  if (error instanceof LedgerError) {
    return { status: HTTP_STATUS[error.code], body: { error: toErrorBody(error) } };
  }
  const { statusCode, code, message } = error as {
    statusCode?: unknown;
    code?: unknown;
    message?: unknown;
  };
  if (typeof statusCode !== 'number' || statusCode < 400 || statusCode > 599) {
    return { status: 500, body: { error: toErrorBody(error) } };
  }
  if (statusCode === 413) {
    const limit = `the body exceeds ${bodyLimitBytes} bytes; send fewer events in one request`;
    return failure(413, 'payload_too_large', limit, { limit_bytes: bodyLimitBytes });
  }
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    return failure(415, 'invalid_request', 'content-type must be application/json');
  }
  if (statusCode === 503) {
    return failure(503, 'unavailable', 'the server is shutting down', { retryable: true });
  }
  if (statusCode >= 500) return { status: 500, body: { error: toErrorBody(error) } };
  if (code === 'FST_ERR_CTP_INVALID_JSON_BODY' || error instanceof SyntaxError) {
    return failure(400, 'invalid_request', 'the body is not valid JSON');
  }
  const text = typeof message === 'string' ? message : 'the request is not valid';
  return failure(statusCode, statusCode === 404 ? 'not_found' : 'invalid_request', text);
}

/** For the header `retry-after`; null: the error does not say. */
export function retryAfterSeconds(error: unknown): number | null {
  const seconds = error instanceof LedgerError ? error.details.retry_after_seconds : null;
  return typeof seconds === 'number' ? seconds : null;
}

function failure(
  status: number,
  code: ErrorCode,
  message: string,
  details?: Record<string, unknown>,
): HttpFailure {
  return { status, body: { error: { code, message, ...(details ? { details } : {}) } } };
}
