/**
 * Imported before everything else. Where the machine has no language (LANG=C or none, as in a
 * container) Chromium calls its own `en-US@posix`, which `Intl` refuses with a RangeError. uPlot asks
 * for it while it loads, so the views with a chart would not open.
 */
try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, 'language', { value: 'en-US', configurable: true });
}

export {};
