// Who may do what in a channel, from Node: `ws`, and the WebSocket that browsers have, which Node has from undici.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';

import { freePort, PROGRAMS, require, start } from './support.mjs';

const { WebSocket: Ws } = require('ws');
const { WebSocket: BrowserWebSocket } = require('undici');

let directory;
let config;
let url;
let server;

before(async () => {
  directory = await mkdtemp(path.join(os.tmpdir(), 'crore-access-'));
  config = path.join(directory, 'crore.toml');
  await writeFile(config, `
    [auth]
    mode = "optional"
    secret = "a secret of more than thirty-two bytes"
    leeway = "0s"
    subscription_secret = "a secret for channels, of thirty-two bytes"
    subscription_notice = "1s"
    [[channels]]
    pattern = "inbox:{user}"
    may_subscribe = "owner"
    [[channels]]
    pattern = "private:*"
    may_subscribe = "token"
    [[channels]]
    pattern = "admin"
    may_subscribe = "role:admin"
    may_publish = ["role:admin"]
  `);
  const port = await freePort();
  url = `ws://127.0.0.1:${port}/ws`;
  server = await start('crore', ['--listen', `127.0.0.1:${port}`, '--cores', '2', '--config', config], port);
});

after(async () => {
  await server?.stop();
  await rm(directory, { recursive: true });
});

async function token(user, ...args) {
  const command = ['gen-token', '--user', user, '--config', config, ...args];
  return (await promisify(execFile)(path.join(PROGRAMS, 'crore'), command)).stdout.trim();
}

/** A client that has been greeted: `ask` sends a message and returns what comes next, `next` waits for that alone. */
async function enter(WebSocket, user, ...claims) {
  const socket = new WebSocket(user ? `${url}?token=${await token(user, ...claims)}` : url);
  const messages = [];
  let wake = () => {};
  socket.addEventListener('message', ({ data }) => wake(messages.push(JSON.parse(data))));
  const next = async () => {
    while (messages.length === 0) await new Promise((resolve) => (wake = resolve));
    return messages.shift();
  };
  if (user) assert.equal((await next()).type, 'authenticated');
  assert.equal((await next()).type, 'welcome');
  const ask = (message) => {
    socket.send(JSON.stringify(message));
    return next();
  };
  return { ask, next, close: () => socket.close() };
}

// capability: 64
for (const [name, WebSocket] of [['ws', Ws], ["a browser's WebSocket", BrowserWebSocket]]) {
  test(`${name} is let into the channels that it may see`, async () => {
    const ann = await enter(WebSocket, 'ann');
    const admin = await enter(WebSocket, 'bob', '--claim', 'roles=["admin"]');
    assert.equal((await ann.ask({ type: 'subscribe', channel: 'inbox:ann' })).type, 'subscribed');
    for (const channel of ['inbox:bob', 'admin']) {
      const refused = await ann.ask({ type: 'subscribe', channel, id: channel });
      assert.deepEqual([refused.id, refused.code, refused.error], [channel, 'forbidden', 'Forbidden']);
    }
    assert.equal((await ann.ask({ type: 'publish', channel: 'admin', data: 1 })).code, 'forbidden');
    assert.equal((await admin.ask({ type: 'subscribe', channel: 'admin' })).type, 'subscribed');
    assert.deepEqual((await admin.ask({ type: 'publish', channel: 'admin', data: 1 })).data, { published: true });
    ann.close();
    admin.close();
  });

  test(`${name} shows a token for a channel, and another one when it is told to`, async () => {
    const ann = await enter(WebSocket, 'ann');
    const one = (...args) => token('ann', '--channel', 'private:1', ...args);
    assert.equal((await ann.ask({ type: 'subscribe', channel: 'private:1' })).code, 'forbidden');
    assert.equal((await ann.ask({ type: 'subscribe', channel: 'private:2', token: await one() })).code, 'invalid_token');
    const told = await ann.ask({ type: 'subscribe', channel: 'private:1', token: await one('--expires', '5s') });
    assert.equal(told.type, 'subscribed');
    const notice = await ann.next();
    assert.deepEqual([notice.type, notice.channel, notice.expires_at], ['expiring', 'private:1', told.expires_at]);
    const again = await ann.ask({ type: 'subscribe', channel: 'private:1', token: await one('--expires', '3s') });
    assert.ok(again.expires_at > told.expires_at);
    assert.equal((await ann.next()).type, 'expiring');
    const end = await ann.next();
    assert.deepEqual([end.type, end.channel, end.code], ['unsubscribed', 'private:1', 'token_expired']);
    assert.ok(Date.now() >= told.expires_at);
    ann.close();
  });
}
