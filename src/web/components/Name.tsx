/** Longer names may be cut by their place, so the whole is to be had by keyboard too. */
const LONG = 24;

/**
 * A name that others chose: kept apart from the text around it whatever way it is written, cut where
 * there is no room. The whole is shown on hover, and in its place on focus.
 */
export function Name({ text, isFocusable = true }: { text: string; isFocusable?: boolean }) {
  const isLong = isFocusable && text.length > LONG;
  return (
    <bdi className="name" title={text} {...(isLong ? { tabIndex: 0 } : {})}>
      {text}
    </bdi>
  );
}

/** The same where no element may stand, as in an option: by Unicode's own isolates. */
export function isolate(text: string): string {
  return `\u2068${text}\u2069`;
}
