import { useState } from 'react';
import { Button } from 'react-aria-components';
import { useSearchParams } from 'react-router';
import type { UsageSeries } from './series.js';
import { type UsageState, writeState } from './usageState.js';

const SAID_MS = 2_000;

/** A link to these days, whatever day it is opened on. */
export function CopyLink({
  state,
  series,
  onChange,
}: {
  state: UsageState;
  series: UsageSeries;
  onChange(change: Partial<UsageState>): void;
}) {
  const [search] = useSearchParams();
  const [isCopied, setCopied] = useState(false);
  const fixed = { preset: 'custom' as const, ...series.range, grain: series.grain };

  async function copy() {
    const link = new URL(window.location.href);
    link.search = String(writeState(search, { ...state, ...fixed }));
    try {
      await navigator.clipboard.writeText(link.href);
      setCopied(true);
      setTimeout(() => setCopied(false), SAID_MS);
    } catch {
      // Not a secure context, or not allowed: the address bar has it.
      onChange(fixed);
    }
  }

  return (
    <Button className="button" onPress={copy}>
      <span aria-live="polite">{isCopied ? 'Copied' : 'Copy link'}</span>
    </Button>
  );
}
