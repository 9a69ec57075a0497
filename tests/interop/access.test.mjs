// Who may do what in a channel, from Node: `ws`, and the WebSocket that browsers have, which Node has from undici.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { inbox, require, serveConfigured } from './support.mjs';

const { WebSocket: Ws } = require('ws');
const { WebSocket: BrowserWebSocket } = require('undici');

let server;

before(async () => {
  server = await serveConfigured(() => `
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
});

after(() => server?.stop());

/** A client that has been greeted: `ask` sends a message and returns what comes next, `next` waits for that alone. */
async function enter(WebSocket, user, ...claims) {
  const socket = new WebSocket(user ? `${server.url}?token=${await server.token(user, ...claims)}` : server.url);
  const next = inbox(socket);
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
    const one = (...args) => server.token('ann', '--channel', 'private:1', ...args);
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
