// A client class as applications have it, as it is, under Node's `ws` against the `crore` server.

import assert from 'node:assert/strict';
import { on, once, EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, test } from 'node:test';

import { freePort, require, start } from './support.mjs';

const { WebSocket } = require('ws');
const source = readFileSync(new URL('server/websocket-client.js', import.meta.url), 'utf8');
const quiet = { log() {}, error() {} };
// The class expects a browser's globals, and brings no export.
const WebSocketClient = new Function('WebSocket', 'console', `${source}\nreturn WebSocketClient;`)(WebSocket, quiet);

let port;
let server;
const clients = [];

const startServer = () => start('crore', ['--listen', `127.0.0.1:${port}`, '--cores', '2'], port);

before(async () => {
  port = await freePort();
  server = await startServer();
});

after(() => server?.stop());

afterEach(() => {
  for (const client of clients.splice(0)) {
    // The class reconnects after its own close, too.
    client.maxReconnectAttempts = 0;
    client.close();
  }
});

/** A client, and its events as Node has them, each message of a type under the name of the type. */
function client(options) {
  const client = new WebSocketClient(`ws://127.0.0.1:${port}/ws`, options);
  const events = new EventEmitter();
  for (const name of ['connected', 'disconnected', 'pong', 'reconnect_failed']) {
    client.on(name, (event) => events.emit(name, event));
  }
  // The class hands a message of type `message` to its handler twice: by its type, and as any message.
  let last;
  client.on('message', (message) => {
    if (message !== last && message.type === 'message') events.emit('message', message);
    last = message;
  });
  clients.push(client);
  return { client, events };
}

async function connected(options) {
  const made = client(options);
  await made.client.connect();
  return made;
}

// capability: 36 38 43
test('connect, subscribe, publish, message', async () => {
  const [alice, bob] = await Promise.all([connected(), connected()]);
  for (const { client } of [alice, bob]) {
    const reply = await client.subscribe('chat:room1');
    assert.equal(reply.type, 'subscribed');
    assert.equal(reply.channel, 'chat:room1');
    assert.equal(reply.id, client.messageId);
  }
  const received = [alice, bob].map(({ events }) => once(events, 'message'));
  const data = { text: 'Grüße, "Bob" 🦇', list: [1, 2.5, null], nested: { deep: true } };
  alice.client.publish('chat:room1', data);
  // The sender is a subscriber like the other.
  const [[toAlice], [toBob]] = await Promise.all(received);
  assert.deepEqual(toAlice, toBob);
  assert.equal(toBob.channel, 'chat:room1');
  assert.deepEqual(toBob.data, data);
  assert.equal(typeof toBob.from, 'string');
});

test('messages of one sender keep their order', async () => {
  const [alice, bob] = await Promise.all([connected(), connected()]);
  await bob.client.subscribe('order');
  const messages = on(bob.events, 'message');
  for (let number = 0; number < 1000; number++) alice.client.publish('order', number);
  for (let number = 0; number < 1000; number++) {
    const { value: [message] } = await messages.next();
    assert.equal(message.data, number);
  }
});

// capability: 37
test('nothing comes from a channel that was left', async () => {
  const [alice, bob] = await Promise.all([connected(), connected()]);
  for (const channel of ['left', 'kept']) await bob.client.subscribe(channel);
  bob.client.unsubscribe('left');
  // A request behind it: by its answer the channel has been left.
  await bob.client.subscribe('kept');
  const received = once(bob.events, 'message');
  alice.client.publish('left', 'unheard');
  alice.client.publish('kept', 'heard');
  assert.equal((await received)[0].data, 'heard');
});

// capability: 34 39
test('a request is resolved by its answer, and rejected by an error', async () => {
  const { client } = await connected();
  const reply = await client.request({ type: 'publish', channel: 'nobody', data: 1 });
  assert.deepEqual([reply.type, reply.data], ['response', { published: true }]);
  await assert.rejects(client.request({ type: 'dance' }), { message: 'Unknown message type: dance' });
});

// capability: 24
test('every ping is answered by a pong', async () => {
  const { events } = await connected({ pingInterval: 20 });
  const pongs = on(events, 'pong');
  for (let count = 0; count < 3; count++) assert.equal((await pongs.next()).value[0].type, 'pong');
});

// capability: 29 86
test('clients find back after a restart', async () => {
  // The delay leaves the server time to start: the class does not survive a second failure.
  const { client, events } = await connected({ reconnectDelay: 3000 });
  const [disconnected, again] = [once(events, 'disconnected'), once(events, 'connected')];
  assert.equal(await server.stop('SIGTERM'), 0);
  const [event] = await disconnected;
  assert.deepEqual([event.code, event.wasClean], [1001, true]);
  server = await startServer();
  await again;
  await client.subscribe('after');
  const received = once(events, 'message');
  client.publish('after', 'the restart');
  assert.equal((await received)[0].data, 'the restart');
});
