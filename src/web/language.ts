/**
 * Imported before everything else. Where the machine has no language (LANG=C or none, as in a
 * container) Chromium calls its own `en-US@posix`, which `Intl` refuses with a RangeError: a component
 * that asks for it would not be drawn.
 */
try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en-US', configurable: true });
}

export {};
