import { readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';

const FOLDER = 'telemetry/otlp';
const SDK = '@opentelemetry/sdk-trace-base';

/**
 * OpenTelemetry's SDK in the place of the module that names it: fourteen packages that are for
 * development alone, so that nobody installs them who exports nothing. What it was made from is removed.
 * @param {string} project its directory; `tsc` has written `dist`
 */
export async function bundleTelemetry(project) {
  const { build } = await import('esbuild');
  const licence = readFileSync(path.join(project, 'node_modules', SDK, 'LICENSE'), 'utf8');
  const { metafile } = await build({
    absWorkingDir: project,
    entryPoints: [`src/${FOLDER}/index.ts`],
    outfile: `dist/${FOLDER}/index.js`,
    bundle: true,
    // The host's, where there is one.
    external: ['@opentelemetry/api', 'prom-client'],
    format: 'esm',
    platform: 'node',
    target: 'node20',
    legalComments: 'none',
    // Of what it has twice, the form that names nobody needs can be left out of.
    mainFields: ['module', 'main'],
    metafile: true,
    logLevel: 'error',
    footer: {
      js: `/*! The code of OpenTelemetry's SDK (The OpenTelemetry Authors):\n${licence}*/`,
    },
  });
  for (const name of readdirSync(path.join(project, 'dist', FOLDER))) {
    if (!/^index\.(js|d\.ts)$/.test(name)) rmSync(path.join(project, 'dist', FOLDER, name));
  }
  return Object.keys(metafile.inputs);
}
