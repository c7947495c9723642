import { type ReactNode, useState } from 'react';
import { Button } from 'react-aria-components';

/** A button that opens a form in its place; when that is closed, the focus is back at the button. */
export function useFormOpener(text: string): {
  isOpen: boolean;
  opener: ReactNode;
  close(): void;
} {
  const [state, setState] = useState<'unused' | 'open' | 'closed'>('unused');
  const isOpen = state === 'open';
  return {
    isOpen,
    opener: isOpen ? null : (
      <Button className="button" autoFocus={state === 'closed'} onPress={() => setState('open')}>
        {text}
      </Button>
    ),
    close: () => setState('closed'),
  };
}
