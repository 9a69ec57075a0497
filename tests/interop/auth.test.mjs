// Tokens from Node: `ws`, and the WebSocket that browsers have, which Node has from undici.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { freePort, PROGRAMS, require, start } from './support.mjs';

const { WebSocket: Ws } = require('ws');
const { WebSocket: BrowserWebSocket } = require('undici');
const PAGE = 'https://app.example.com';

let directory;
let config;
let url;
let server;

before(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'crore-auth-'));
  config = path.join(directory, 'crore.toml');
  await writeFile(config, `
    [http]
    allowed_origins = ["${PAGE}"]
    [auth]
    mode = "required"
    secret = "a secret of more than thirty-two bytes"
    sources = ["bearer", "query", "subprotocol", "cookie", "message"]
    timeout = "1s"
  `);
  const port = await freePort();
  url = `ws://127.0.0.1:${port}/ws`;
  server = await start('crore', ['--listen', `127.0.0.1:${port}`, '--cores', '2', '--config', config], port);
});

after(async () => {
  await server?.stop();
  await rm(directory, { recursive: true });
});

async function token(user) {
  const args = ['gen-token', '--user', user, '--expires', '10m', '--config', config];
  return (await promisify(execFile)(path.join(PROGRAMS, 'crore'), args)).stdout.trim();
}

/** The next messages of a socket, and how it closes. */
function listen(socket) {
  const messages = [];
  let wake = () => {};
  socket.addEventListener('message', ({ data }) => wake(messages.push(JSON.parse(data))));
  const closed = new Promise((resolve) => socket.addEventListener('close', resolve));
  const next = async () => {
    while (messages.length === 0) await new Promise((resolve) => (wake = resolve));
    return messages.shift();
  };
  return { next, closed };
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
  const one = await token('ann');
  await assertAuthenticated(new Ws(`${url}?token=${one}`), 'ann');
  await assertAuthenticated(new Ws(url, { headers: { Authorization: `Bearer ${one}` } }), 'ann');
  await assertAuthenticated(new Ws(url, { headers: { Cookie: `token=${one}` }, origin: PAGE }), 'ann');
  const socket = new Ws(url, [`auth.${one}`, 'crore'], { origin: PAGE });
  await assertAuthenticated(socket, 'ann');
  assert.equal(socket.protocol, 'crore');
});

// capability: 53 54 55
test("a browser's WebSocket brings a token in the query, as a subprotocol or in a message", async () => {
  const one = await token('ann');
  await assertAuthenticated(new BrowserWebSocket(`${url}?token=${one}`), 'ann');
  const socket = new BrowserWebSocket(url, ['crore', `auth.${one}`]);
  await assertAuthenticated(socket, 'ann');
  assert.equal(socket.protocol, 'crore');
  const late = new BrowserWebSocket(url);
  late.addEventListener('open', () => late.send(JSON.stringify({ type: 'auth', token: one })));
  await assertAuthenticated(late, 'ann');
});

// capability: 55 58
test("a browser's WebSocket can read why it is refused", async () => {
  for (const [query, error] of [['?token=garbage', 'Invalid token'], ['', 'Authentication timeout']]) {
    const { next, closed } = listen(new BrowserWebSocket(url + query));
    const told = await next();
    assert.deepEqual([told.type, told.error], ['error', error]);
    const { code, reason, wasClean } = await closed;
    assert.deepEqual([code, reason, wasClean], [4001, 'Authentication failed', true]);
  }
});

// capability: 5 56 63
test('a cookie from another page opens nothing', async () => {
  const options = { headers: { Cookie: `token=${await token('ann')}` }, origin: 'https://evil.example' };
  const [error] = await once(new Ws(url, options), 'error');
  assert.match(error.message, /403/);
});
