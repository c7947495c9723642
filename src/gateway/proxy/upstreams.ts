import { Pool } from 'undici';
import { LedgerError } from '../../errors.js';
import { tellsUsageUnasked } from '../processUsage/index.js';
import { PROVIDERS, type Provider } from './apis.js';
import { Refusal } from './refusal.js';
import type { OnAbort, UpstreamEntry, UpstreamSettings } from './upstreamEntry.js';

/** For the provider to accept a connection, to send its headers, and between chunks. */
export interface UpstreamTimeouts {
  connectTimeoutMs: number;
  headersTimeoutMs: number;
  bodyTimeoutMs: number;
}

export interface Upstream {
  /** Of the row's provider, and of what is remembered of it. */
  name: string;
  provider: Provider;
  pool: Pool;
  /** Tells the price list which provider it is. */
  host: string;
  port: number;
  /** Where it has a path of the gateway's, `/v1/...`. */
  toPath(path: string): string;
  /** The operator's key, and what else the operator adds to every request. */
  ownHeaders: Readonly<Record<string, string>>;
  /** Null: every one. */
  models: readonly RegExp[] | null;
  /** Whether it takes `stream_options`; null = it is asked, and its refusal remembered. */
  takesStreamOptions: boolean | null;
  /** Null: as its API and host are known to bill. */
  onAbort: OnAbort | null;
  /** The cost that it reports counts; else the price list's. */
  reportsCost: boolean;
  /** In which it says what a whole answer cost, in lower case. */
  costHeader: string | null;
  /** @throws Refusal `upstream_not_configured` naming the variable, never its value */
  requireConfigured(): void;
}

const PUBLIC_URLS: Record<Provider, string> = {
  openai: 'https://api.openai.com',
  anthropic: 'https://api.anthropic.com',
};

/** The providers behind the gateway, in the order in which a model is looked for. */
export class Upstreams {
  readonly #upstreams: readonly Upstream[];

  /** Takes what `listEntries` does. */
  constructor(
    settings: Partial<Record<Provider, Partial<UpstreamSettings>>>,
    entries: readonly UpstreamEntry[],
    timeouts: UpstreamTimeouts,
  ) {
    this.#upstreams = listEntries(settings, entries).map((entry) => openUpstream(entry, timeouts));
  }

  /** @throws Refusal `model_not_served`, saying which are; `upstream_not_configured` */
  forModel(provider: Provider, model: string | null): Upstream {
    const upstream = this.find(provider, model);
    if (upstream !== null) {
      upstream.requireConfigured();
      return upstream;
    }
    const message =
      model === null
        ? 'the request names no model, and this gateway chooses a provider by it'
        : `no provider of this gateway serves the model ${model.slice(0, 200)}`;
    throw new Refusal('model_not_served', message, { param: 'model' });
  }

  /** Null: none serves that model. */
  find(provider: Provider, model: string | null): Upstream | null {
    return this.of(provider).find(({ models }) => serves(models, model)) ?? null;
  }

  /** All that serve an API, in order. */
  of(provider: Provider): Upstream[] {
    return this.#upstreams.filter((each) => each.provider === provider);
  }

  named(provider: Provider, name: string): Upstream | null {
    return this.of(provider).find((each) => each.name === name) ?? null;
  }

  /** Lets nothing new begin and cuts what is left. */
  async destroy(): Promise<void> {
    await Promise.all(this.#upstreams.map(({ pool }) => pool.destroy()));
  }
}

/**
 * @param entries of the file: asked first, in its order
 * @param settings of the environment: for every model that no entry is for. Where the file has
 *   an API and the environment says nothing of it, there is no such upstream.
 */
export function listEntries(
  settings: Partial<Record<Provider, Partial<UpstreamSettings>>>,
  entries: readonly UpstreamEntry[],
): UpstreamEntry[] {
  const fallbacks = PROVIDERS.filter((provider) => {
    const isSet = Object.values(settings[provider] ?? {}).some((value) => value != null);
    return isSet || !entries.some((entry) => entry.api === provider);
  });
  return [...entries, ...fallbacks.map((provider) => toEntry(provider, settings[provider] ?? {}))];
}

/** The host that a request for the model goes to; null = none serves it. */
export function hostFor(
  entries: readonly UpstreamEntry[],
  provider: Provider,
  model: string | null,
): string | null {
  const entry = entries.find(
    ({ api, models }) => api === provider && serves(models?.map(toPattern) ?? null, model),
  );
  return entry === undefined ? null : new URL(entry.url).host;
}

function serves(models: readonly RegExp[] | null, model: string | null): boolean {
  return models === null || (model !== null && models.some((pattern) => pattern.test(model)));
}

/** @throws LedgerError `invalid_request` for what is no URL */
export function upstreamHost(provider: Provider, url = PUBLIC_URLS[provider]): string {
  return parseUrl(`MICRODOLLAR_${provider.toUpperCase()}_URL`, url).host;
}

function toEntry(
  provider: Provider,
  { url = PUBLIC_URLS[provider], key = null }: Partial<UpstreamSettings>,
): UpstreamEntry {
  const variable = `MICRODOLLAR_${provider.toUpperCase()}`;
  return { name: provider, api: provider, url, key, models: null, settingsOf: variable };
}

function openUpstream(entry: UpstreamEntry, timeouts: UpstreamTimeouts): Upstream {
  const { name, api, key, settingsOf } = entry;
  const parsed = parseUrl(
    settingsOf === undefined ? `${name}.url` : `${settingsOf}_URL`,
    entry.url,
  );
  const isPublic = parsed.origin === PUBLIC_URLS[api];
  const base = toBase(api, parsed.pathname);
  return {
    name,
    provider: api,
    pool: new Pool(parsed.origin, {
      connect: { timeout: timeouts.connectTimeoutMs, keepAlive: true },
      headersTimeout: timeouts.headersTimeoutMs,
      bodyTimeout: timeouts.bodyTimeoutMs,
      // Requests that end after a keep-alive race are lost to the client: give up idle ones early.
      keepAliveTimeout: 4_000,
      pipelining: 1,
    }),
    host: parsed.host,
    port: Number(parsed.port || (parsed.protocol === 'https:' ? 443 : 80)),
    toPath: (path) => `${base}${path.slice('/v1'.length)}`,
    ownHeaders: { ...entry.headers, ...(key === null ? {} : credentialsOf(api, key)) },
    models: entry.models === null ? null : entry.models.map(toPattern),
    takesStreamOptions: entry.streamOptions ?? (tellsUsageUnasked(parsed.hostname) ? false : null),
    onAbort: entry.onAbort ?? null,
    reportsCost: entry.reportedCost ?? true,
    costHeader: entry.costHeader?.toLowerCase() ?? null,
    requireConfigured() {
      if (key !== null || !isPublic) return;
      const remedy = settingsOf === undefined ? `give ${name} a key` : `set ${settingsOf}_KEY`;
      throw new Refusal(
        'upstream_not_configured',
        `this gateway has no key for its provider; its operator must ${remedy}`,
      );
    },
  };
}

/**
 * What stands in place of `/v1`. A URL of an OpenAI-compatible API that has its version elsewhere, or
 * another, is what its SDK is given: `/v1beta/openai`, `/api/paas/v4`.
 */
function toBase(api: Provider, pathname: string): string {
  const path = pathname.replace(/\/+$/, '');
  if (path.endsWith('/v1')) return path;
  return api === 'openai' && /\/v\d\w*(\/|$)/.test(path) ? path : `${path}/v1`;
}

function credentialsOf(provider: Provider, key: string): Record<string, string> {
  return provider === 'anthropic' ? { 'x-api-key': key } : { authorization: `Bearer ${key}` };
}

/** `gpt-*`: a star stands for any text. */
function toPattern(pattern: string): RegExp {
  const source = pattern.split('*').map((text) => text.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${source.join('.*')}$`, 'i');
}

/** Names the setting, never its value. */
function parseUrl(field: string, url: string): URL {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    throw wrongUrl(field, `must be a URL like ${PUBLIC_URLS.openai}`);
  }
  if (!/^https?:$/.test(parsed.protocol) || parsed.username !== '' || parsed.password !== '') {
    throw wrongUrl(field, 'must be an http or https URL without credentials');
  }
  return parsed;
}

function wrongUrl(field: string, problem: string): LedgerError {
  return new LedgerError('invalid_request', `${field} ${problem}`, { details: { field } });
}
