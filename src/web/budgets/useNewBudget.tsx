import { type ReactNode, useState } from 'react';
import { Button } from 'react-aria-components';
import { NewBudget } from './NewBudget.js';
import type { SubjectChoices } from './subjects.js';

/** The button that opens the form, and the form; closed, the focus is back at the button. */
export function useNewBudget(subjects: SubjectChoices): {
  opener: ReactNode;
  form: ReactNode;
} {
  const [state, setState] = useState<'unused' | 'open' | 'closed'>('unused');
  const close = () => setState('closed');
  if (state === 'open') {
    return {
      opener: null,
      form: <NewBudget subjects={subjects} onSet={close} onClose={close} />,
    };
  }
  return {
    opener: (
      <Button className="button" autoFocus={state === 'closed'} onPress={() => setState('open')}>
        New budget
      </Button>
    ),
    form: null,
  };
}
