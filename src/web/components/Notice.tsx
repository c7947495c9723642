import type { ReactNode } from 'react';
import { Button } from 'react-aria-components';
import type { Failure } from '../api.js';
import { sentence } from '../sentence.js';

export function Loading({ what }: { what: string }) {
  return (
    <div className="loading" role="status">
      <span className="loading-dot" aria-hidden="true" />
      Loading {what}…
    </div>
  );
}

/** What failed, why, and a way on. */
export function ErrorNotice({
  failure,
  what,
  onRetry,
}: {
  failure: Failure;
  what: string;
  onRetry?: () => void;
}) {
  return (
    <div className="notice danger" role="alert">
      <div>
        <strong>{what}.</strong> <span>{sentence(failure.message)}</span>{' '}
        <code className="error-code">{failure.code}</code>
      </div>
      {onRetry && (
        <Button className="button" onPress={onRetry}>
          Try again
        </Button>
      )}
    </div>
  );
}

/** What is shown is of an earlier look, for the last one failed. */
export function NotRenewed({ failure }: { failure: Failure }) {
  return (
    <p className="notice warning" role="status">
      {sentence(`not up to date: ${failure.message}`)} What you see is from the last look.
    </p>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children}
    </div>
  );
}
