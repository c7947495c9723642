/**
 * Coding CLIs through the gateway, against a scripted provider on this machine: a streamed answer, a
 * tool, a 429, a wrong key, a stop. They are installed apart, for they are large:
 *
 *     npm install --prefix DIR @anthropic-ai/claude-code @openai/codex opencode-ai @qwen-code/qwen-code node@24
 *     npx tsx scripts/client-clis.ts DIR [claude|codex|opencode|qwen]
 *
 * Prints a line a check, with the requests that reached the gateway and the seconds it took; ends
 * with 1 where one is not as it should be.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createApiKey } from '../src/accounts/apiKeys.js';
import { addCredit } from '../src/accounts/credits.js';
import { createUser } from '../src/accounts/users.js';
import { startEmbeddedPostgres } from '../src/db/embedded.js';
import { migrate } from '../src/db/migrate.js';
import { openGateway } from '../src/gateway/index.js';
import { createLedger } from '../src/ledger.js';
import { createServer } from '../src/server/index.js';
import { startReplayUpstream } from '../test/support/replayUpstream.js';
import { scriptProvider } from '../test/support/scriptedProvider.js';

interface Cli {
  name: string;
  model: string;
  /** Makes what it needs in its home, and says how it is run. */
  command(home: string, url: string, key: string, prompt: string): Invocation;
}

interface Invocation {
  file: string;
  args: string[];
  env: Record<string, string>;
}

const LIMIT_MS = 90_000;
const directory = resolve(process.argv[2] ?? '');
const bin = (name: string) => join(directory, 'node_modules/.bin', name);
const node = join(directory, 'node_modules/node/bin/node');

const CLIS: readonly Cli[] = [
  {
    name: 'claude',
    model: 'claude-opus-5-5',
    command: (_home, url, key, prompt) => ({
      file: bin('claude'),
      args: ['-p', prompt, '--model', 'claude-opus-5-5', '--allowedTools', 'Bash'],
      env: {
        ANTHROPIC_BASE_URL: url,
        ANTHROPIC_API_KEY: key,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: '1',
      },
    }),
  },
  {
    name: 'codex',
    model: 'gpt-5',
    command(home, url, key, prompt) {
      writeFileSync(join(home, 'config.toml'), `model = "gpt-5"\nopenai_base_url = "${url}/v1"\n`);
      return {
        file: bin('codex'),
        args: [
          ...['exec', '--skip-git-repo-check', '--dangerously-bypass-approvals-and-sandbox'],
          prompt,
        ],
        env: { CODEX_HOME: home, CODEX_API_KEY: key },
      };
    },
  },
  {
    name: 'opencode',
    model: 'own/gpt-4.1-nano',
    command(home, url, key, prompt) {
      const provider = {
        npm: '@ai-sdk/openai-compatible',
        options: { baseURL: `${url}/v1`, apiKey: key },
        models: { 'gpt-4.1-nano': {} },
      };
      const config = {
        autoupdate: false,
        provider: { own: provider },
        permission: { bash: 'allow' },
      };
      return {
        file: bin('opencode'),
        args: ['run', '--model', 'own/gpt-4.1-nano', prompt],
        env: { OPENCODE_CONFIG_CONTENT: JSON.stringify(config), XDG_DATA_HOME: join(home, 'data') },
      };
    },
  },
  {
    name: 'qwen',
    model: 'gpt-4.1-nano',
    command: (_home, url, key, prompt) => ({
      file: node,
      args: [bin('qwen'), '--yolo', '--auth-type', 'openai', '-p', prompt],
      env: { OPENAI_API_KEY: key, OPENAI_BASE_URL: `${url}/v1`, OPENAI_MODEL: 'gpt-4.1-nano' },
    }),
  },
];

interface Run {
  output: string;
  status: number | null;
  seconds: number;
  requests: number;
}

async function main(): Promise<void> {
  if (!existsSync(bin('claude')))
    throw new Error('give the directory where the CLIs are installed');
  const dataDir = mkdtempSync(join(tmpdir(), 'microdollar-clis-'));
  const upstream = await startReplayUpstream();
  scriptProvider(upstream);
  const database = await startEmbeddedPostgres({ dataDir });
  await migrate(database.url);
  const ledger = await createLedger({ databaseUrl: database.url });
  const target = { url: upstream.url, key: 'sk-of-the-operator' };
  const gateway = await openGateway({
    ledger,
    databaseUrl: database.url,
    dataDir,
    upstreams: { openai: target, anthropic: target },
  });
  const lines: string[] = [];
  const server = createServer({
    ledger,
    port: 0,
    logStream: { write: (line: string) => void lines.push(line) },
    plugins: [gateway.plugin],
  });
  const url = await server.listen();
  await createUser(ledger.pool, { id: 'ada' });
  await addCredit(ledger.pool, { kilo_user_id: 'ada', usd: 100 });
  const wanted = { kilo_user_id: 'ada', scopes: ['gateway'] as const };
  const { key } = await createApiKey(ledger.pool, { ...wanted, scopes: [...wanted.scopes] });
  /** Those that ask a model, and attempts at a WebSocket. */
  const countRequests = () =>
    lines.filter((line) => /"path":"\/v1\/(chat|responses|messages)[^"]*"/.test(line)).length;

  let isWrong = false;
  for (const cli of CLIS.filter(({ name }) => name === (process.argv[3] ?? name))) {
    for (const [check, prompt, useKey, isRight] of checksOf(dataDir, cli.name, key)) {
      const before = countRequests();
      const home = mkdtempSync(join(dataDir, `${cli.name}-`));
      const stopOn = check === 'stop' ? upstream : null;
      const run = await start(cli.command(home, url, useKey, prompt), home, stopOn);
      const done = { ...run, requests: countRequests() - before };
      const verdict = isRight(done) ? 'right' : 'WRONG';
      if (verdict === 'WRONG') isWrong = true;
      console.log(
        `${verdict}  ${cli.name.padEnd(9)} ${check.padEnd(10)} status ${done.status}, ` +
          `${done.requests} requests, ${done.seconds.toFixed(1)} s`,
      );
      if (verdict === 'WRONG') console.log(done.output.slice(-1_500));
    }
  }
  await server.close();
  await gateway.close();
  const { rows } = await ledger.pool.query(
    `select count(*)::int as rows, count(*) filter (where cancelled)::int as cancelled
     from microdollar_usage_metadata`,
  );
  console.log(`${upstream.calls} requests to the provider, rows:`, rows[0]);
  await ledger.close();
  await database.stop();
  await upstream.close();
  rmSync(dataDir, { recursive: true, force: true });
  process.exitCode = isWrong ? 1 : 0;
}

type Check = [name: string, prompt: string, key: string, isRight: (run: Run) => boolean];

const SAID = 'Good morning, world.';

function checksOf(dataDir: string, cli: string, key: string): Check[] {
  const proof = join(dataDir, `${cli}-ran`);
  return [
    ['stream', 'Say hello.', key, ({ output }) => output.includes(SAID)],
    [
      'tool',
      `Do it. [[tool echo done > ${proof}]]`,
      key,
      ({ output }) => output.includes(SAID) && existsSync(proof) && readFileSync(proof).length > 0,
    ],
    [
      '429',
      `Try. [[busy ${cli}]]`,
      key,
      // Codex repeats no 429, of a provider's own either.
      ({ output }) => output.includes(SAID) || (cli === 'codex' && /status: 429/.test(output)),
    ],
    [
      'wrong key',
      'Say hello.',
      'md_wrong',
      ({ output, seconds }) => /wrong or was revoked/.test(output) && seconds < 60,
    ],
    ['stop', `Go on. [[slow]] ${cli}`, key, ({ seconds }) => seconds < 60],
  ];
}

/** Runs it to its end; or, where it is to be stopped, until its answer has begun. */
async function start(
  { file, args, env }: Invocation,
  home: string,
  stopOn: Awaited<ReturnType<typeof startReplayUpstream>> | null,
): Promise<Omit<Run, 'requests'>> {
  const startedAt = performance.now();
  const cwd = join(home, 'work');
  mkdirSync(cwd);
  const child = spawn(file, args, {
    cwd,
    env: { PATH: process.env.PATH ?? '', HOME: home, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own: some start themselves again.
    detached: true,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += String(chunk);
    });
  }
  const limit = setTimeout(() => signalAll(child, 'SIGKILL'), LIMIT_MS);
  if (stopOn !== null) void stopWhenBegun(child, stopOn);
  const status = await new Promise<number | null>((done) => child.once('exit', done));
  clearTimeout(limit);
  signalAll(child, 'SIGKILL');
  return { output, status, seconds: (performance.now() - startedAt) / 1_000 };
}

/** As Ctrl-C; the provider sees the connection go where it is stopped. */
async function stopWhenBegun(
  child: ChildProcess,
  upstream: Awaited<ReturnType<typeof startReplayUpstream>>,
): Promise<void> {
  const seen = upstream.requests.length;
  const hasBegun = () =>
    upstream.requests.slice(seen).some(({ body }) => body.includes('[[slow]]'));
  while (!hasBegun() && child.exitCode === null) {
    await new Promise((done) => setTimeout(done, 100));
  }
  await new Promise((done) => setTimeout(done, 1_000));
  signalAll(child, 'SIGINT');
  await new Promise((done) => setTimeout(done, 3_000));
  if (child.exitCode === null) signalAll(child, 'SIGTERM');
  // What is drained ends with its provider.
  upstream.cut();
}

/** To its whole group, which may be gone. */
function signalAll({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // All of them have ended.
  }
}

await main();
