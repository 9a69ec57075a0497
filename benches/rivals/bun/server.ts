// Bun's own server, which is µWebSockets inside: bun server.ts <echo|broadcast> [--port PORT]
import { parseArgs } from 'node:util';

const { positionals: [mode], values } = parseArgs({
  allowPositionals: true,
  options: { port: { type: 'string', default: '9001' } },
});
if (mode !== 'echo' && mode !== 'broadcast') {
  console.error('usage: server.ts <echo|broadcast> [--port PORT]');
  process.exit(2);
}

const BYTES_MAX = 64 * 1024 * 1024;
const TOPIC = 'all';

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: Number(values.port),
  fetch(request, server) {
    if (!server.upgrade(request)) return new Response('a WebSocket upgrade is needed', { status: 426 });
  },
  websocket: {
    maxPayloadLength: BYTES_MAX,
    backpressureLimit: BYTES_MAX,
    perMessageDeflate: false,
    idleTimeout: 120,
    sendPings: true,
    open(socket) {
      if (mode === 'broadcast') socket.subscribe(TOPIC);
    },
    message(socket, message) {
      // The server publishes to all; a socket's own publish would leave the sender out.
      if (mode === 'broadcast') server.publish(TOPIC, message);
      else socket.send(message);
    },
  },
});
console.log(`listening on ${server.hostname}:${server.port}`);
