import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify';
import { packageFile } from '../packageFiles.js';
import type { ServerPlugin } from './plugins.js';

/** Paths that the page routes by itself. */
export const PAGE_ROUTES = ['/', '/profile', '/operations', '/start'] as const;

/** `npm run build` writes it there; the package ships it. */
const BUILT_PAGE = packageFile('dist/web') ?? '';

/** There in a checkout, not in the package. */
const BUILD_CONFIG = packageFile('vite.config.ts') ?? '';

/** In index.html, for the few style elements that the component base adds at run time. */
const NONCE_MARK = '__CSP_NONCE__';

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json; charset=utf-8',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.txt': 'text/plain; charset=utf-8',
};

const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'cross-origin-opener-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=(), payment=(), usb=()',
  // The nonce is new each time; the files it names are immutable.
  'cache-control': 'no-store',
};

const NOT_BUILT = `<!doctype html>
<html lang="en">
<title>microdollar: the page is not built</title>
<p>The API is up, the page is not built. Run <code>npm run build</code> and start again.</p>
</html>
`;

interface PageFile {
  body: Buffer;
  /** Null where it would not be smaller. Made when it is first asked for: a start need not wait for it. */
  gzipped(): Promise<Buffer | null>;
  type: string;
  /** Of the content. */
  hash: string;
  /** Its name has its content's hash in it. */
  isImmutable: boolean;
}

/**
 * Serves the built page from memory: a request is looked up among the files that exist, so no path
 * ever reaches the file system.
 */
export function pagePlugin(options: { directory?: string } = {}): ServerPlugin {
  return async (app) => {
    if (options.directory === undefined) await buildOnDemand(app.log);
    const files = readPage(options.directory ?? BUILT_PAGE);
    const index = files.get('/index.html');
    files.delete('/index.html');
    for (const route of PAGE_ROUTES) {
      app.get(route, (_request, reply) => sendIndex(reply, index));
    }
    for (const [path, file] of files) {
      app.get(path, (request, reply) => sendFile(request, reply, file));
    }
    // A browser that looks for a page gets one, which says that there is none.
    app.get('/*', (request, reply) => {
      const path = request.url.split('?', 1)[0] ?? '';
      const isRoute = isPageRoute(path);
      if (!isRoute && !isNavigation(request, path)) return reply.callNotFound();
      return sendIndex(reply.code(isRoute ? 200 : 404), index);
    });
  };
}

/** Slashes at its end are let pass; of many slashes amid it none is the begin of a run but the first. */
export function isPageRoute(path: string): boolean {
  return (PAGE_ROUTES as readonly string[]).includes(path.replace(/(?<!\/)\/+$/, ''));
}

/** Somebody's typing or an old link: not of the API, not a file. */
function isNavigation(request: FastifyRequest, path: string): boolean {
  if (!/\btext\/html\b/.test(request.headers.accept ?? '')) return false;
  return !/^\/(api|v1|assets)(\/|$)/.test(path);
}

/** A checkout that was never built builds its page now; it takes some seconds, once. */
async function buildOnDemand(log: FastifyBaseLogger): Promise<void> {
  if (existsSync(join(BUILT_PAGE, 'index.html')) || !existsSync(BUILD_CONFIG)) return;
  try {
    const { build } = await import('vite');
    await build({ configFile: BUILD_CONFIG, logLevel: 'silent' });
  } catch (error) {
    log.error({ err: error }, 'the page could not be built; run npm run build');
  }
}

function sendIndex(reply: FastifyReply, index: PageFile | undefined): FastifyReply {
  const nonce = randomBytes(16).toString('base64');
  reply.headers({ ...PAGE_HEADERS, 'content-security-policy': contentSecurityPolicy(nonce) });
  reply.type('text/html; charset=utf-8');
  if (index === undefined) return reply.code(503).send(NOT_BUILT);
  return reply.send(index.body.toString('utf8').replaceAll(NONCE_MARK, nonce));
}

/** Scripts and styles from this server's files alone; nothing is fetched from anywhere else. */
function contentSecurityPolicy(nonce: string): string {
  return [
    "default-src 'none'",
    "script-src 'self'",
    `style-src 'self' 'nonce-${nonce}'`,
    "img-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
}

async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  file: PageFile,
): Promise<FastifyReply> {
  const gzipped = takesGzip(request) ? await file.gzipped() : null;
  // One for each form of it: a cache must not take the one for the other.
  const etag = gzipped === null ? `"${file.hash}"` : `"${file.hash}-gzip"`;
  reply.type(file.type).header('etag', etag).header('vary', 'accept-encoding');
  reply.header(
    'cache-control',
    file.isImmutable ? 'public, max-age=31536000, immutable' : 'no-cache',
  );
  if (request.headers['if-none-match'] === etag) return reply.code(304).send();
  if (gzipped === null) return reply.send(file.body);
  return reply.header('content-encoding', 'gzip').send(gzipped);
}

/** It is named, and not with a quality of zero, which refuses it. */
const TAKES_GZIP = /\bgzip\b(?!\s*;\s*q\s*=\s*0(\.0*)?\s*(,|$))/i;

function takesGzip({ headers }: FastifyRequest): boolean {
  return TAKES_GZIP.test(headers['accept-encoding'] ?? '');
}

/** Every file by its URL path; empty when the page is not built. */
function readPage(directory: string): Map<string, PageFile> {
  const files = new Map<string, PageFile>();
  if (!existsSync(join(directory, 'index.html'))) return files;
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const urlPath = `/${path.slice(directory.length).replaceAll('\\', '/').replace(/^\/+/, '')}`;
    files.set(urlPath, readPageFile(path, urlPath.startsWith('/assets/')));
  }
  return files;
}

function readPageFile(path: string, isImmutable: boolean): PageFile {
  const body = readFileSync(path);
  let gzipped: Promise<Buffer | null> | null = null;
  return {
    body,
    gzipped: () => {
      gzipped ??= compress(body);
      return gzipped;
    },
    type: CONTENT_TYPES[extname(path)] ?? 'application/octet-stream',
    hash: createHash('sha256').update(body).digest('base64url').slice(0, 27),
    isImmutable,
  };
}

async function compress(body: Buffer): Promise<Buffer | null> {
  const gzipped = await promisify(gzip)(body, { level: 9 });
  return gzipped.length < body.length ? gzipped : null;
}
