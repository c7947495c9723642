import { ToggleButton, ToggleButtonGroup } from 'react-aria-components';

/** One of a few, always one. */
export function Segments<Choice extends string>({
  label,
  choices,
  chosen,
  onChoose,
}: {
  label: string;
  choices: readonly { id: Choice; text: string }[];
  chosen: Choice;
  onChoose(choice: Choice): void;
}) {
  return (
    <ToggleButtonGroup
      className="segments"
      aria-label={label}
      selectionMode="single"
      disallowEmptySelection
      selectedKeys={[chosen]}
      onSelectionChange={(keys) => {
        const [choice] = keys;
        if (choice !== undefined) onChoose(choice as Choice);
      }}
    >
      {choices.map(({ id, text }) => (
        <ToggleButton key={id} id={id} className="segment">
          {text}
        </ToggleButton>
      ))}
    </ToggleButtonGroup>
  );
}
