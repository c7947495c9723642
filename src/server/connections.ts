import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

export interface Connections {
  /** Cuts those on which no request is under way: idle, never used, or amid their headers. */
  closeUnused(): void;
}

/**
 * Node closes idle connections with its server, but not those that never sent a whole request, as
 * browsers and pools open them ahead of time: each would hold a shutdown until its time is up.
 *
 * Idle ones are kept for long, and yet keep nobody out: who takes the last place ends the one that has been
 * idle the longest.
 * @param most as many as the server takes
 */
export function trackConnections(server: Server, most: number): Connections {
  /** How many requests are under way on each. */
  const requests = new Map<Socket, number>();
  /** Kept alive after an answer, the longest first; with the bytes that had come by then. */
  const idle = new Map<Socket, number>();
  const add = (socket: Socket, count: number): void => {
    const before = requests.get(socket);
    if (before === undefined) return;
    requests.set(socket, before + count);
    if (before + count === 0) idle.set(socket, socket.bytesRead);
    else idle.delete(socket);
  };
  const forget = (socket: Socket): void => {
    requests.delete(socket);
    idle.delete(socket);
  };
  const endLongestIdle = (): void => {
    for (const [socket, bytes] of idle) {
      // Amid the headers of its next request.
      if (socket.bytesRead > bytes) continue;
      // At once: whoever comes before it has closed ends another.
      forget(socket);
      socket.destroy();
      return;
    }
  };
  server.on('connection', (socket: Socket) => {
    requests.set(socket, 0);
    socket.once('close', () => forget(socket));
    if (requests.size >= most) endLongestIdle();
  });
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    add(socket, 1);
    response.once('close', () => add(socket, -1));
  });
  return {
    closeUnused() {
      for (const [socket, count] of requests) if (count === 0) socket.destroy();
    },
  };
}
