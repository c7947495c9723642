import { Button } from 'react-aria-components';
import { setTheme, type Theme, useTheme } from '../theme.js';

const NEXT: Record<Theme, Theme> = { system: 'light', light: 'dark', dark: 'system' };
const LABEL: Record<Theme, string> = { system: 'Auto', light: 'Light', dark: 'Dark' };

/** Device, light, dark, in turn. */
export function ThemeChoice() {
  const theme = useTheme();
  return (
    <Button
      className="button quiet theme"
      aria-label={`Colours: ${LABEL[theme]}. Change to ${LABEL[NEXT[theme]]}`}
      onPress={() => setTheme(NEXT[theme])}
    >
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        <circle cx="8" cy="8" r="6.25" fill="none" stroke="currentColor" strokeWidth="1.5" />
        {theme === 'light' ? null : (
          <path
            d={theme === 'dark' ? 'M8 2a6 6 0 1 1 0 12a6 6 0 1 1 0 -12z' : 'M8 2a6 6 0 0 1 0 12z'}
            fill="currentColor"
          />
        )}
      </svg>
      <span className="wide-only">{LABEL[theme]}</span>
    </Button>
  );
}
