// Tokens from Node: `ws`, and the WebSocket that browsers have, which Node has from undici.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';

import { inbox, require, serveConfigured } from './support.mjs';

const { WebSocket: Ws } = require('ws');
const { WebSocket: BrowserWebSocket } = require('undici');
const PAGE = 'https://app.example.com';

let server;

before(async () => {
  server = await serveConfigured(() => `
    [http]
    allowed_origins = ["${PAGE}"]
    [auth]
    mode = "required"
    secret = "a secret of more than thirty-two bytes"
    sources = ["bearer", "query", "subprotocol", "cookie", "message"]
    timeout = "1s"
  `);
});

after(() => server?.stop());

/** The next messages of a socket, and how it closes. */
function listen(socket) {
  const closed = new Promise((resolve) => socket.addEventListener('close', resolve));
  return { next: inbox(socket), closed };
}

async function assertAuthenticated(socket, user) {
  const { next } = listen(socket);
  const told = await next();
  assert.deepEqual([told.type, told.user_id], ['authenticated', user]);
  const welcome = await next();
  assert.deepEqual([welcome.type, welcome.user_id], ['welcome', user]);
  socket.close();
}

// capability: 53 54 56 57
test('ws brings a token in every part of the request', async () => {
  const one = await server.token('ann');
  await assertAuthenticated(new Ws(`${server.url}?token=${one}`), 'ann');
  await assertAuthenticated(new Ws(server.url, { headers: { Authorization: `Bearer ${one}` } }), 'ann');
  await assertAuthenticated(new Ws(server.url, { headers: { Cookie: `token=${one}` }, origin: PAGE }), 'ann');
  const socket = new Ws(server.url, [`auth.${one}`, 'crore'], { origin: PAGE });
  await assertAuthenticated(socket, 'ann');
  assert.equal(socket.protocol, 'crore');
});

// capability: 53 54 55
test("a browser's WebSocket brings a token in the query, as a subprotocol or in a message", async () => {
  const one = await server.token('ann');
  await assertAuthenticated(new BrowserWebSocket(`${server.url}?token=${one}`), 'ann');
  const socket = new BrowserWebSocket(server.url, ['crore', `auth.${one}`]);
  await assertAuthenticated(socket, 'ann');
  assert.equal(socket.protocol, 'crore');
  const late = new BrowserWebSocket(server.url);
  late.addEventListener('open', () => late.send(JSON.stringify({ type: 'auth', token: one })));
  await assertAuthenticated(late, 'ann');
});

// capability: 55 58
test("a browser's WebSocket can read why it is refused", async () => {
  for (const [query, error] of [['?token=garbage', 'Invalid token'], ['', 'Authentication timeout']]) {
    const { next, closed } = listen(new BrowserWebSocket(server.url + query));
    const told = await next();
    assert.deepEqual([told.type, told.error], ['error', error]);
    const { code, reason, wasClean } = await closed;
    assert.deepEqual([code, reason, wasClean], [4001, 'Authentication failed', true]);
  }
});

// capability: 5 56 63
test('a cookie from another page opens nothing', async () => {
  const options = { headers: { Cookie: `token=${await server.token('ann')}` }, origin: 'https://evil.example' };
  const [error] = await once(new Ws(server.url, options), 'error');
  assert.match(error.message, /403/);
});
