import { type ReactNode, useId } from 'react';
import { isolate } from './Name.js';

/** What a control of a field takes. */
export interface FieldControl {
  id: string;
  'aria-invalid'?: true;
  'aria-describedby'?: string;
}

/** A label, its control, and below it what is wrong with what was given. */
export function FormField({
  label,
  problem,
  children,
}: {
  label: string;
  problem: string | null;
  children(control: FieldControl): ReactNode;
}) {
  const id = useId();
  const problemId = `${id}-problem`;
  return (
    <div className="form-field">
      <label htmlFor={id}>{label}</label>
      {children({
        id,
        ...(problem === null
          ? {}
          : { 'aria-invalid': true as const, 'aria-describedby': problemId }),
      })}
      {problem !== null && (
        <p className="field-problem" id={problemId} role="alert">
          {problem}
        </p>
      )}
    </div>
  );
}

/** An id, a name or an amount. */
export function TextField({
  label,
  problem,
  value,
  onType,
  kind = 'text',
  placeholder,
  suggested,
  isFirst = false,
}: {
  label: string;
  problem: string | null;
  value: string;
  onType(text: string): void;
  kind?: 'text' | 'amount' | 'datetime-local';
  placeholder?: string;
  suggested?: readonly string[];
  /** Of a form that was just asked for: what one begins with. */
  isFirst?: boolean;
}) {
  const listId = useId();
  return (
    <FormField label={label} problem={problem}>
      {(control) => (
        <>
          <input
            {...control}
            type={kind === 'amount' ? 'text' : kind}
            {...(kind === 'amount' ? { inputMode: 'decimal' } : {})}
            {...(suggested === undefined ? {} : { list: listId })}
            spellCheck={false}
            autoComplete="off"
            autoCapitalize="none"
            placeholder={placeholder}
            // biome-ignore lint/a11y/noAutofocus: the form was just asked for
            autoFocus={isFirst}
            value={value}
            onChange={(event) => onType(event.target.value)}
          />
          {suggested !== undefined && (
            <datalist id={listId}>
              {suggested.map((each) => (
                <option key={each} value={each} />
              ))}
            </datalist>
          )}
        </>
      )}
    </FormField>
  );
}

/** One of a few, always one. */
export function ChoiceField<Id extends string>({
  label,
  problem,
  value,
  choices,
  onChoose,
  isFirst = false,
}: {
  label: string;
  problem: string | null;
  value: Id;
  choices: readonly { id: Id; text: string }[];
  onChoose(id: NoInfer<Id>): void;
  isFirst?: boolean;
}) {
  return (
    <FormField label={label} problem={problem}>
      {(control) => (
        <select
          {...control}
          // biome-ignore lint/a11y/noAutofocus: the form was just asked for
          autoFocus={isFirst}
          value={value}
          onChange={(event) => onChoose(event.target.value as Id)}
        >
          {choices.map(({ id, text }) => (
            <option key={id} value={id}>
              {isolate(text)}
            </option>
          ))}
        </select>
      )}
    </FormField>
  );
}
