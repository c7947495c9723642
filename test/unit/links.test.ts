import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findDeadLinks } from '../support/links.js';

let root: string;

beforeAll(() => {
  root = mkdtempSync(path.join(tmpdir(), 'microdollar-links-'));
  mkdirSync(path.join(root, 'pages'));
  writeFileSync(
    path.join(root, 'pages/there.md'),
    '# A `name`, twice\n\n# A name, twice\n\n```\n# none\n```\n',
  );
  writeFileSync(path.join(root, 'picture.png'), '');
});

afterAll(() => rmSync(root, { recursive: true }));

function deadIn(text: string): string[] {
  writeFileSync(path.join(root, 'pages/read.md'), text);
  return findDeadLinks(root, 'pages/read.md').map((dead) => dead.replace('pages/read.md: ', ''));
}

describe('links of a document', () => {
  it.each([
    '[file](there.md) [up](../picture.png) [folder](../pages) [titled](there.md "a title")',
    '[first](there.md#a-name-twice) [second](there.md#a-name-twice-1)',
    '# Here\n[own](#here)',
    '<img src="../picture.png"><source srcset="../picture.png">',
    '[abroad](https://example.com/a?b#c) [mail](mailto:a@example.com)',
    '[defined]: there.md',
    '`[code](nowhere.md)`\n\n```md\n[code](nowhere.md)\n```',
  ])('lead somewhere: %s', (text) => expect(deadIn(text)).toEqual([]));

  it.each([
    ['[file](nowhere.md)', 'nowhere.md'],
    ['[heading](there.md#nothing)', 'there.md#nothing'],
    ['[in code](there.md#none)', 'there.md#none'],
    ['[own](#nothing)', '#nothing'],
    ['<img src="nothing.png">', 'nothing.png'],
    ['[insecure](http://example.com)', 'http://example.com'],
    ['[not an address](https://)', 'https://'],
    ['[out of the project](../../etc)', '../../etc'],
    ['[defined]: nowhere.md', 'nowhere.md'],
  ])('lead nowhere: %s', (text, target) => expect(deadIn(text)).toEqual([target]));
});
