import { Component, type ReactNode } from 'react';
import { ErrorNotice } from './Notice.js';

interface State {
  message: string | null;
}

/** A view that throws, or whose program does not load, says so; without this the page goes blank. */
export class ErrorBoundary extends Component<{ children: ReactNode }, State> {
  override state: State = { message: null };

  static getDerivedStateFromError(error: unknown): State {
    return { message: error instanceof Error ? error.message : String(error) };
  }

  override render() {
    if (this.state.message === null) return this.props.children;
    return (
      <ErrorNotice
        failure={{ code: 'internal', message: this.state.message, details: {} }}
        what="This view could not be shown"
        onRetry={() => window.location.reload()}
      />
    );
  }
}
