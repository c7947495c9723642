import { createHash, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import {
  type ArchiveFileName,
  type ArchiveHeader,
  type ArchiveTrailer,
  damaged,
} from './fileFormat.js';
import { type ArchiveFileSystem, onDisk } from './fileSystem.js';
import { keyOf, type ProvenFile, proveFile } from './readFile.js';
import type { PageRow } from './readPage.sql.js';

/** As of a dump: the usual level takes half as long again, for 5% less. */
const GZIP_LEVEL = 4;

/** What went into a file, by the rows as the database gave them. */
export interface WrittenDraft {
  path: string;
  rows: number;
  costMicrodollars: bigint;
  costByKey: Map<string, bigint>;
  sha256: string;
}

/**
 * Writes the rows that `pages` gives into a draft, and makes it durable. Null, and no draft, when
 * there are none. A draft that cannot be finished is removed.
 */
export async function writeDraft(
  fileSystem: ArchiveFileSystem,
  directory: string,
  header: ArchiveHeader,
  pages: AsyncIterator<PageRow[]>,
): Promise<WrittenDraft | null> {
  const first = await pages.next();
  if (first.done) return null;
  const draft: WrittenDraft = {
    path: join(directory, `microdollar_usage-${header.day}-${randomUUID()}.draft`),
    rows: 0,
    costMicrodollars: 0n,
    costByKey: new Map(),
    sha256: '',
  };
  try {
    const file = await onDisk(directory, () => fileSystem.create(draft.path));
    try {
      const gzip = createGzip({ level: GZIP_LEVEL });
      const source = Readable.from(linesOf(header, first.value, pages, draft));
      source.on('error', (error) => gzip.destroy(error));
      source.pipe(gzip);
      for await (const chunk of gzip as AsyncIterable<Buffer>) {
        await onDisk(directory, () => file.write(chunk));
      }
      await onDisk(directory, () => file.sync());
    } finally {
      await onDisk(directory, () => file.close());
    }
    return draft;
  } catch (error) {
    await fileSystem.remove(draft.path).catch(() => {});
    throw error;
  }
}

async function* linesOf(
  header: ArchiveHeader,
  firstPage: PageRow[],
  pages: AsyncIterator<PageRow[]>,
  draft: WrittenDraft,
): AsyncGenerator<string> {
  const hash = createHash('sha256');
  const digested = (text: string) => {
    hash.update(text);
    return text;
  };
  yield digested(`${JSON.stringify(header)}\n`);
  for (let page = firstPage; ; ) {
    for (const row of page) add(draft, row);
    yield digested(page.map((row) => `${row.line}\n`).join(''));
    const next = await pages.next();
    if (next.done) break;
    page = next.value;
  }
  draft.sha256 = hash.digest('hex');
  const trailer: ArchiveTrailer = {
    end: true,
    events: draft.rows,
    cost_microdollars: String(draft.costMicrodollars),
    sha256: draft.sha256,
  };
  yield `${JSON.stringify(trailer)}\n`;
}

function add(draft: WrittenDraft, row: PageRow): void {
  const cost = BigInt(row.cost);
  const key = keyOf(row);
  draft.rows++;
  draft.costMicrodollars += cost;
  draft.costByKey.set(key, (draft.costByKey.get(key) ?? 0n) + cost);
}

/**
 * Reads a draft back from the disk and compares it with what was written: digest, count, sum of
 * every key. @throws LedgerError `internal`; the draft is left for whoever looks into it
 */
export async function proveDraft(
  fileSystem: ArchiveFileSystem,
  draft: WrittenDraft,
  file: ArchiveFileName,
): Promise<ProvenFile> {
  const proven = await proveFile(fileSystem, draft.path, file);
  const sameKeys =
    proven.costByKey.size === draft.costByKey.size &&
    [...draft.costByKey].every(([key, cost]) => proven.costByKey.get(key) === cost);
  if (
    proven.sha256 !== draft.sha256 ||
    proven.rows.length !== draft.rows ||
    proven.costMicrodollars !== draft.costMicrodollars ||
    !sameKeys
  ) {
    throw damaged(file, 'it reads back differently from what was written');
  }
  return proven;
}

/** A proven draft gets its name, durably: before any of its rows is deleted. */
export async function nameDraft(
  fileSystem: ArchiveFileSystem,
  directory: string,
  draft: WrittenDraft,
  file: ArchiveFileName,
): Promise<void> {
  await onDisk(directory, async () => {
    await fileSystem.name(draft.path, join(directory, file.name));
    await fileSystem.syncDirectory(directory);
  });
}
