import { Pool } from 'undici';
import { LedgerError } from '../../errors.js';
import { PROVIDERS, type Provider } from './apis.js';
import { Refusal } from './refusal.js';

export interface UpstreamSettings {
  /** Without `/v1`; a path prefix is kept. */
  url: string;
  /** Null: none is sent, for a provider of one's own that wants none. */
  key: string | null;
}

/** For the provider to accept a connection, to send its headers, and between chunks. */
export interface UpstreamTimeouts {
  connectTimeoutMs: number;
  headersTimeoutMs: number;
  bodyTimeoutMs: number;
}

export interface Upstream {
  pool: Pool;
  /** Tells the price list which provider it is. */
  host: string;
  /** Of the URL, before `/v1/...`. */
  pathPrefix: string;
  credentials: Readonly<Record<string, string>>;
  /** @throws Refusal `upstream_not_configured` naming the variable, never its value */
  requireConfigured(): void;
}

const PUBLIC_URLS: Record<Provider, string> = {
  openai: 'https://api.openai.com',
  anthropic: 'https://api.anthropic.com',
};

export class Upstreams {
  readonly #upstreams: Record<Provider, Upstream>;

  constructor(
    settings: Partial<Record<Provider, Partial<UpstreamSettings>>>,
    timeouts: UpstreamTimeouts,
  ) {
    const open = (provider: Provider) => openUpstream(provider, settings[provider] ?? {}, timeouts);
    this.#upstreams = { openai: open('openai'), anthropic: open('anthropic') };
  }

  of(provider: Provider): Upstream {
    return this.#upstreams[provider];
  }

  /** Lets nothing new begin and cuts what is left. */
  async destroy(): Promise<void> {
    await Promise.all(PROVIDERS.map((provider) => this.#upstreams[provider].pool.destroy()));
  }
}

/** @throws LedgerError `invalid_request` for what is no URL */
export function upstreamHost(provider: Provider, url = PUBLIC_URLS[provider]): string {
  return parseUrl(provider, url).host;
}

function openUpstream(
  provider: Provider,
  { url = PUBLIC_URLS[provider], key = null }: Partial<UpstreamSettings>,
  timeouts: UpstreamTimeouts,
): Upstream {
  const parsed = parseUrl(provider, url);
  const pool = new Pool(parsed.origin, {
    connect: { timeout: timeouts.connectTimeoutMs, keepAlive: true },
    headersTimeout: timeouts.headersTimeoutMs,
    bodyTimeout: timeouts.bodyTimeoutMs,
    // Requests that end after a keep-alive race are lost to the client: give up idle ones early.
    keepAliveTimeout: 4_000,
    pipelining: 1,
  });
  const isPublic = parsed.origin === PUBLIC_URLS[provider];
  return {
    pool,
    host: parsed.host,
    pathPrefix: parsed.pathname.replace(/\/+$/, '').replace(/\/v1$/, ''),
    credentials: key === null ? {} : credentialsOf(provider, key),
    requireConfigured() {
      if (key !== null || !isPublic) return;
      const variable = `MICRODOLLAR_${provider.toUpperCase()}_KEY`;
      throw new Refusal(
        'upstream_not_configured',
        `this gateway has no key for its provider; its operator must set ${variable}`,
      );
    },
  };
}

function credentialsOf(provider: Provider, key: string): Record<string, string> {
  return provider === 'anthropic' ? { 'x-api-key': key } : { authorization: `Bearer ${key}` };
}

function parseUrl(provider: Provider, url: string): URL {
  const variable = `MICRODOLLAR_${provider.toUpperCase()}_URL`;
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw wrongUrl(variable, `must be a URL like ${PUBLIC_URLS[provider]}`);
  }
  if (!/^https?:$/.test(parsed.protocol) || parsed.username !== '' || parsed.password !== '') {
    throw wrongUrl(variable, 'must be an http or https URL without credentials');
  }
  return parsed;
}

/** Names the variable, never its value. */
function wrongUrl(variable: string, problem: string): LedgerError {
  return new LedgerError('invalid_request', `${variable} ${problem}`, {
    details: { field: variable },
  });
}
