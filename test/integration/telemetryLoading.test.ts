import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, it } from 'vitest';
import { bundleTelemetry } from '../../scripts/bundleTelemetry.js';
import { type CompiledProject, compileModules } from '../support/compileProject.js';
import { startOtlpReceiver } from '../support/otlpReceiver.js';

const REPOSITORY = path.join(import.meta.dirname, '../..');
const project = mkdtempSync(path.join(tmpdir(), 'microdollar-telemetry-'));

let modules: CompiledProject | undefined;

afterAll(() => {
  modules?.remove();
  rmSync(project, { recursive: true, force: true });
});

/** What a service loads, without and with an endpoint; then the built file, on its own. */
const PROGRAM = `
import { createRequire } from 'node:module';
const { cache } = createRequire(process.cwd() + '/package.json');
const loaded = () => [...new Set(Object.keys(cache).flatMap(
  (file) => /@opentelemetry[/\\\\][\\w-]+/.exec(file)?.[0] ?? []))];
for (const each of ['index', 'cli/start', 'cli/gateway', 'gateway/index', 'server/app']) {
  await import('./src/' + each + '.js');
}
const { openTelemetry } = await import('./src/telemetry/telemetry.js');
const { readTelemetrySettings } = await import('./src/telemetry/settings.js');
const log = { warn: console.error, error: console.error };
const off = await openTelemetry(readTelemetrySettings({}), log);
const without = loaded();
const settings = readTelemetrySettings(process.env);
await (await openTelemetry(settings, log)).close();
const { openOtlp } = await import(process.argv[1]);
const built = openOtlp(settings, '1.2.3', log);
built.tracer.startSpan('from the built file').end();
await built.close();
console.log(JSON.stringify({ off, without, with: loaded() }));
`;

describe('the SDK', () => {
  it('is not loaded where nothing is exported, and is one file in what is built', async () => {
    const built = path.join(project, 'dist/telemetry/otlp');
    mkdirSync(built, { recursive: true });
    for (const name of ['src', 'node_modules']) {
      symlinkSync(path.join(REPOSITORY, name), path.join(project, name));
    }
    await bundleTelemetry(project);
    modules = await compileModules(['src/**/*.ts']);
    expect(await readdir(built)).toEqual(['index.js']);

    const receiver = await startOtlpReceiver();
    const { stdout, stderr } = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '-e', PROGRAM, path.join(built, 'index.js')],
      {
        cwd: modules.dir,
        env: {
          OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url,
          OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
          OTEL_METRICS_EXPORTER: 'none',
        },
      },
    );
    const said = JSON.parse(stdout);
    expect(said.off).toBeNull();
    // The interface, which prom-client loads in any case.
    expect(said.without).toEqual(['@opentelemetry/api']);
    expect(said.with).toEqual(expect.arrayContaining(['@opentelemetry/sdk-trace']));
    expect(receiver.spans.map(({ name }) => name)).toEqual(['from the built file']);
    expect(stderr).toBe('');
    await receiver.close();
  });
});
