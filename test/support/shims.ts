import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
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

/**
 * Asks the test's process over TCP: it has the project loaded. By a shell, which starts in a twentieth of
 * what Node.js takes. Words end with NUL, as they do in arguments and in the environment.
 */
const client = (port: number) => `#!/usr/bin/env bash
exec 3<>/dev/tcp/127.0.0.1/${port}
{ printf '%s\\0' "\${0##*/}" "$PWD" "$#" "$@"; env -0; printf '\\0'; } >&3
IFS= read -r -d '' status <&3
IFS= read -r -d '' error <&3
printf '%s' "$error" >&2
cat <&3
exit "$status"
`;

/** Null: not all of it has come. */
function readCall(received: string): ShimCall | null {
  const words = received.split('\0');
  const [name = '', cwd = '', count = ''] = words;
  const start = 3 + Number(count);
  const end = words.indexOf('', start);
  // What follows the last NUL is a word that has only begun.
  if (words.length < start || end === -1 || end === words.length - 1) return null;
  const entries = words.slice(start, end).map((entry) => {
    const at = entry.indexOf('=');
    return [entry.slice(0, at), entry.slice(at + 1)];
  });
  return { name, cwd, argv: words.slice(3, start), env: Object.fromEntries(entries) };
}

/** Programs of these names, each answered by `run` in this process. */
export async function createShims(
  directory: string,
  names: readonly string[],
  run: (call: ShimCall) => Promise<ShimAnswer>,
): Promise<Shims> {
  const respond = async (socket: Socket, call: ShimCall) => {
    const { status, stdout, stderr } = await run(call).catch((error: Error) => ({
      status: 99,
      stdout: '',
      stderr: `${error.stack}\n`,
    }));
    socket.end(`${status}\0${stderr}\0${stdout}`);
  };
  const server = createServer((socket) => {
    let received = '';
    socket.setEncoding('utf8');
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: string) => {
      received += chunk;
      const call = readCall(received);
      if (call !== null) void respond(socket, call);
    });
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
