import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';

/** What a shim is called with, and what it answers. */
export interface ShimCall {
  name: string;
  argv: string[];
  env: NodeJS.ProcessEnv;
  cwd: string;
}

export interface ShimAnswer {
  status: number;
  stdout: string;
  stderr: string;
}

export interface Shims {
  /** To be the first of PATH. */
  directory: string;
  close(): Promise<void>;
}

/** Asks the test's process over HTTP: it has the project loaded, and starts nothing. */
const client = (port: number) => `#!${process.execPath}
const { basename } = require('node:path');
const body = JSON.stringify({
  name: basename(process.argv[1]), argv: process.argv.slice(2), env: process.env, cwd: process.cwd(),
});
const request = require('node:http').request({ port: ${port}, method: 'POST' }, (response) => {
  let text = '';
  response.on('data', (chunk) => { text += chunk; });
  response.on('end', () => {
    const { status, stdout, stderr } = JSON.parse(text);
    process.stdout.write(stdout);
    process.stderr.write(stderr);
    process.exitCode = status;
  });
});
request.end(body);
`;

/** Programs of these names, each answered by `run` in this process. */
export async function createShims(
  directory: string,
  names: readonly string[],
  run: (call: ShimCall) => Promise<ShimAnswer>,
): Promise<Shims> {
  const server: Server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const call = JSON.parse(Buffer.concat(chunks).toString()) as ShimCall;
    const answer = await run(call).catch((error: Error) => ({
      status: 99,
      stdout: '',
      stderr: `${error.stack}\n`,
    }));
    response.end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await mkdir(directory, { recursive: true });
  for (const name of names) {
    const path = join(directory, name);
    await writeFile(path, client(port));
    await chmod(path, 0o755);
  }
  return {
    directory,
    close: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
