import type { Kind } from '../scenario.js';

/** Readable on light and dark pages alike: each chart brings its own background. */
export const COLOURS: Readonly<Record<Kind, readonly string[]>> = {
  ours: ['#1f6feb', '#0f766e', '#7c3aed', '#111827', '#38bdf8'],
  alternative: ['#c2410c', '#a16207', '#9d174d', '#6b4423'],
  limit: ['#6b7280', '#9ca3af'],
};

export function colourOf(kind: Kind, place: number): string {
  const colours = COLOURS[kind];
  return colours[place % colours.length] as string;
}

export function escapeXml(text: string): string {
  const entities: Record<string, string> = {
    '&': '&amp;',
    '<': '&lt;',
    '>': '&gt;',
    '"': '&quot;',
  };
  return text.replace(/[&<>"]/g, (character) => entities[character] as string);
}

export function text(
  x: number,
  y: number,
  content: string,
  options: { anchor?: 'start' | 'middle' | 'end'; size?: number; bold?: boolean } = {},
): string {
  const { anchor = 'start', size = 12, bold = false } = options;
  const weight = bold ? ' font-weight="600"' : '';
  return (
    `<text x="${fixed(x)}" y="${fixed(y)}" text-anchor="${anchor}" font-size="${size}"${weight}>` +
    `${escapeXml(content)}</text>`
  );
}

export function svgDocument(
  width: number,
  height: number,
  title: string,
  parts: readonly string[],
): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"`,
    `  viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeXml(title)}"`,
    '  font-family="system-ui, sans-serif" fill="#1f2328">',
    `<rect width="${width}" height="${height}" rx="6" fill="#ffffff"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

export function fixed(value: number): string {
  return String(Number(value.toFixed(1)));
}

/** Round numbers from 0 to at least `max`, four to eight of them. */
export function ticksUpTo(max: number): number[] {
  if (!(max > 0)) return [0, 1];
  const magnitude = 10 ** Math.floor(Math.log10(max));
  const step = [0.2, 0.5, 1, 2].map((each) => each * magnitude).find((each) => max / each <= 6);
  const unit = step ?? magnitude * 2;
  const count = Math.ceil(max / unit - 1e-9);
  return Array.from({ length: count + 1 }, (_, index) => Number((index * unit).toPrecision(12)));
}

/** 12,345 · 12.3 · 0.0279 */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return 'none';
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(3)));
}
