/** A proxy that only passes on, of the same libraries: `gatewayProxy.ts <upstreamUrl>`. */
import Fastify from 'fastify';
import { Pool } from 'undici';

const [upstreamUrl = ''] = process.argv.slice(2);
const upstream = new Pool(upstreamUrl, { keepAliveTimeout: 60_000 });
const server = Fastify();
server.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
server.removeContentTypeParser('application/json');
server.post('/v1/*', (request, reply) => {
  reply.hijack();
  const answer = reply.raw;
  upstream.dispatch(
    {
      path: request.url,
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer bench' },
      body: request.body as Buffer,
    },
    {
      onRequestStart() {},
      onResponseStart(_controller, statusCode, headers) {
        const contentType = headers['content-type'] ?? 'application/json';
        answer.writeHead(statusCode, { 'content-type': contentType });
      },
      onResponseData: (_controller, chunk) => void answer.write(chunk),
      onResponseEnd: () => void answer.end(),
      onResponseError: () => void answer.destroy(),
    },
  );
});
console.log(await server.listen({ host: '127.0.0.1', port: 0 }));
process.on('SIGTERM', () => process.exit(0));
