// Node's `ws`: node server.mjs <echo|broadcast> [--port PORT]
import { parseArgs } from 'node:util';
import { WebSocket, WebSocketServer } from 'ws';

const { positionals: [mode], values } = parseArgs({
  allowPositionals: true,
  options: { port: { type: 'string', default: '9001' } },
});
if (mode !== 'echo' && mode !== 'broadcast') {
  console.error('usage: server.mjs <echo|broadcast> [--port PORT]');
  process.exit(2);
}

const port = Number(values.port);
const server = new WebSocketServer({
  host: '127.0.0.1',
  port,
  backlog: 4096,
  maxPayload: 64 * 1024 * 1024,
  perMessageDeflate: false,
  clientTracking: false,
});

const members = new Map();
const corked = new Set();

// All that is sent to a client in one turn of the event loop leaves in one write.
function cork(socket) {
  if (corked.size === 0) setImmediate(uncorkAll);
  corked.add(socket);
  socket.cork();
}

function uncorkAll() {
  for (const socket of corked) socket.uncork();
  corked.clear();
}

function publish(data, binary) {
  for (const [client, socket] of members) {
    if (client.readyState !== WebSocket.OPEN) continue;
    if (!corked.has(socket)) cork(socket);
    client.send(data, { binary });
  }
}

server.on('connection', (client, request) => {
  client.on('error', () => {}); // A client that breaks the protocol is closed by the library.
  if (mode === 'echo') {
    client.on('message', (data, binary) => client.send(data, { binary }));
  } else {
    members.set(client, request.socket);
    client.on('close', () => members.delete(client));
    client.on('message', publish);
  }
});
server.on('listening', () => console.log(`listening on 127.0.0.1:${port}`));
