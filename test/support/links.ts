import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';

const CODE = /^(```|~~~)[\s\S]*?^\1|`[^`\n]*`/gm;
const MARKDOWN_LINK = /\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g;
const DEFINITION = /^\[[^\]]+\]:\s*(\S+)/gm;
const HTML_LINK = /\b(?:src|srcset|href)="([^"]*)"/g;
const HEADING = /^#{1,6}\s+(.*?)\s*#*$/gm;

/**
 * Links of a Markdown file that lead nowhere: to no file, to no heading of it, or to what is no
 * address. Of other hosts only the form is looked at.
 */
export function findDeadLinks(root: string, file: string): string[] {
  const text = withoutCode(readFileSync(path.join(root, file), 'utf8'));
  const targets = [MARKDOWN_LINK, DEFINITION, HTML_LINK].flatMap((kind) =>
    [...text.matchAll(kind)].map(([, target = '']) => target),
  );
  return targets
    .filter((target) => !leadsSomewhere(root, file, target))
    .map((it) => `${file}: ${it}`);
}

function leadsSomewhere(root: string, from: string, target: string): boolean {
  if (/^[a-z][a-z+.-]*:/i.test(target)) return isAddress(target);
  const [name = '', anchor] = target.split('#');
  const file = name === '' ? from : path.join(path.dirname(from), decodeURIComponent(name));
  const found = path.resolve(root, file);
  if (!found.startsWith(path.resolve(root)) || !existsSync(found)) return false;
  if (anchor === undefined) return true;
  return statSync(found).isFile() && headingsOf(readFileSync(found, 'utf8')).has(anchor);
}

function isAddress(target: string): boolean {
  if (!URL.canParse(target)) return false;
  const { protocol, hostname } = new URL(target);
  return protocol === 'mailto:' || (protocol === 'https:' && hostname.includes('.'));
}

/** As GitHub and npm name them. */
function headingsOf(text: string): Set<string> {
  const names = new Set<string>();
  for (const [, heading = ''] of text.replace(/^```[\s\S]*?^```/gm, '').matchAll(HEADING)) {
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[`*]/g, '');
    const name = plain
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-');
    let unique = name;
    for (let n = 1; names.has(unique); n++) unique = `${name}-${n}`;
    names.add(unique);
  }
  return names;
}

function withoutCode(text: string): string {
  return text.replace(CODE, '');
}
