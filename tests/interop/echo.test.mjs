// Node's `ws` against the echo example on two cores.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { on, once } from 'node:events';
import { after, before, test } from 'node:test';

import { freePort, require, start } from './support.mjs';

const { WebSocket } = require('ws');
// The largest message that the engine takes unless it is told otherwise.
const MESSAGE_BYTES_MAX = 1024 * 1024;
// Both sides of the borders between the forms of a frame's length, and of a receive buffer.
const SIZES = [0, 1, 125, 126, 127, 16383, 16384, 16385, 65535, 65536, 65537, 1000000, MESSAGE_BYTES_MAX];

let server;
let url;

before(async () => {
  const port = await freePort();
  url = `ws://127.0.0.1:${port}/`;
  server = await start('examples/echo', [`127.0.0.1:${port}`, '--cores', '2'], port);
});

after(() => server?.stop());

/** Connects, does something, and closes. */
async function connected(task) {
  const socket = new WebSocket(url);
  await once(socket, 'open');
  await task(socket);
  socket.terminate();
}

async function echoed(socket, message) {
  const answer = once(socket, 'message');
  socket.send(message);
  const [data, isBinary] = await answer;
  assert.equal(isBinary, typeof message !== 'string');
  assert.ok(data.equals(Buffer.from(message)), `${data.length} bytes came back, ${message.length} went`);
}

test('text of every length', () =>
  connected(async (socket) => {
    for (const size of SIZES) await echoed(socket, 'x'.repeat(size));
    await echoed(socket, 'κόσμε, 世界, 🦇, \0'.repeat(10000));
  }));

test('binary of every length', () =>
  connected(async (socket) => {
    for (const size of SIZES) await echoed(socket, randomBytes(size));
  }));

test('many messages in flight keep their order', () =>
  connected(async (socket) => {
    const messages = Array.from({ length: 2000 }, (_, number) => Buffer.alloc(number % 700, number));
    const answers = on(socket, 'message');
    messages.forEach((message) => socket.send(message));
    for (const message of messages) {
      const { value: [data] } = await answers.next();
      assert.ok(data.equals(message));
    }
  }));

test('fragments are joined, and a ping between them is answered at once', () =>
  connected(async (socket) => {
    const [answer, pong] = [once(socket, 'message'), once(socket, 'pong')];
    const euro = Buffer.from('€');
    socket.send(euro.subarray(0, 1), { binary: false, fin: false });
    socket.send('', { binary: false, fin: false });
    socket.ping('between');
    assert.equal(String((await pong)[0]), 'between');
    socket.send(euro.subarray(1), { binary: false, fin: true });
    const [data, isBinary] = await answer;
    assert.equal(String(data), '€');
    assert.ok(!isBinary);
  }));

test('pings of every length', () =>
  connected(async (socket) => {
    for (const size of [0, 1, 8, 125]) {
      const [payload, pong] = [randomBytes(size), once(socket, 'pong')];
      socket.ping(payload);
      assert.ok((await pong)[0].equals(payload));
    }
    socket.pong('nobody has asked');
    await echoed(socket, 'still here');
  }));

for (const [code, reason] of [[1000, ''], [1001, 'leaving'], [3000, 'é'.repeat(61)], [4999, 'x'.repeat(123)]]) {
  test(`the client's close with ${code} is answered with its code`, () =>
    connected(async (socket) => {
      const closed = once(socket, 'close');
      socket.close(code, reason);
      assert.equal((await closed)[0], code);
    }));
}

test('a close without a code is answered without one', () =>
  connected(async (socket) => {
    const closed = once(socket, 'close');
    socket.close();
    assert.equal((await closed)[0], 1005);
  }));

test('the close of the server has a code and a reason', () =>
  connected(async (socket) => {
    const closed = once(socket, 'close');
    await echoed(socket, 'before');
    socket.send(Buffer.alloc(MESSAGE_BYTES_MAX + 1));
    const [code, reason] = await closed;
    assert.equal(code, 1009);
    assert.match(String(reason), /message/);
  }));

test('an offer of compression is passed over', () =>
  connected(async (socket) => {
    assert.equal(socket.extensions, '');
    await echoed(socket, 'plain');
  }));

test('hundreds of clients at once', () =>
  Promise.all(
    Array.from({ length: 300 }, (_, number) =>
      connected(async (socket) => {
        for (let round = 0; round < 10; round++) await echoed(socket, `${number} ${round}`);
      }),
    ),
  ));
