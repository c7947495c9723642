import http from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export interface Received {
  path: string;
  headers: Record<string, string>;
  body: string;
}

/** Answers a request; what it does not end stays open. */
export type Answer = (response: http.ServerResponse, received: Received) => void;

export interface WebhookReceiver {
  url: string;
  received: Received[];
  /** Of the next requests, in order; the last one stays. */
  answerWith(...answers: (number | Answer)[]): void;
  close(): Promise<void>;
}

/** Somebody's endpoint of webhooks on this machine; 200 unless it is told otherwise. */
export async function startWebhookReceiver(): Promise<WebhookReceiver> {
  const received: Received[] = [];
  let answers: (number | Answer)[] = [200];
  const sockets = new Set<Socket>();
  const server = http.createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8');
    request.on('data', (chunk: string) => {
      body += chunk;
    });
    request.on('end', () => {
      const headers = request.headers as Record<string, string>;
      const one = { path: request.url ?? '', headers, body };
      received.push(one);
      const answer = answers.length > 1 ? answers.shift() : answers[0];
      if (typeof answer === 'function') answer(response, one);
      else response.writeHead(answer ?? 200).end();
    });
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/hook`,
    received,
    answerWith(...next) {
      answers = next;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
