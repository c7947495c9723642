/** What a reference is made of. Texts may have `code` in backticks and **strong** words. */
export type Block =
  | { kind: 'heading'; level: 2 | 3; text: string; id: string }
  | { kind: 'text'; text: string }
  | { kind: 'table'; head: readonly string[]; rows: readonly (readonly string[])[] }
  | { kind: 'code'; language: string; text: string };

export function heading(level: 2 | 3, text: string): Block {
  const id = text
    .toLowerCase()
    .replace(/[^a-z0-9 _-]/g, '')
    .replaceAll(' ', '-');
  return { kind: 'heading', level, text, id };
}

export function text(content: string): Block[] {
  return content.split('\n\n').map((paragraph) => ({ kind: 'text', text: paragraph }));
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): Block[] {
  return rows.length === 0 ? [] : [{ kind: 'table', head, rows }];
}

export function code(language: string, content: string): Block {
  return { kind: 'code', language, text: content };
}
