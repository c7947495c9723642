import { useRef, useState } from 'react';
import { Button } from 'react-aria-components';
import { ScrollRegion } from './ScrollRegion.js';

const SAID_MS = 2_000;

/** A command to paste into a terminal. */
export function CopyCommand({ label, command }: { label: string; command: string }) {
  const text = useRef<HTMLElement>(null);
  const [state, setState] = useState<'idle' | 'copied' | 'select'>('idle');

  async function copy() {
    try {
      await navigator.clipboard.writeText(command);
      setState('copied');
    } catch {
      // Not a secure context, or not allowed: the text is selected for Ctrl-C.
      if (text.current) getSelection()?.selectAllChildren(text.current);
      setState('select');
    }
    setTimeout(() => setState('idle'), SAID_MS);
  }

  return (
    <figure className="command">
      <figcaption>{label}</figcaption>
      <ScrollRegion label={label} className="command-text">
        <pre>
          <code ref={text}>{command}</code>
        </pre>
      </ScrollRegion>
      <Button className="button small copy" aria-label={`Copy: ${label}`} onPress={copy}>
        <span aria-live="polite">
          {state === 'copied' ? 'Copied' : state === 'select' ? 'Press Ctrl-C' : 'Copy'}
        </span>
      </Button>
    </figure>
  );
}
