// Who types and who has read what, from Node: `ws`, and the WebSocket that browsers have, which Node has from undici.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { freePort, inbox, require, start } from './support.mjs';

const { WebSocket: Ws } = require('ws');
const { WebSocket: BrowserWebSocket } = require('undici');

let url;
let server;

before(async () => {
  const port = await freePort();
  url = `ws://127.0.0.1:${port}/ws`;
  server = await start('crore', ['--listen', `127.0.0.1:${port}`, '--cores', '2'], port);
});

after(() => server?.stop());

/** A client that has subscribed. */
async function enter(WebSocket, channel) {
  const socket = new WebSocket(url);
  const next = inbox(socket);
  const user = (await next()).user_id;
  const send = (message) => socket.send(JSON.stringify({ channel, ...message }));
  send({ type: 'subscribe' });
  assert.equal((await next()).type, 'subscribed');
  return { send, next, user, close: () => socket.close() };
}

// capability: 50 51
for (const [name, WebSocket] of [['ws', Ws], ["a browser's WebSocket", BrowserWebSocket]]) {
  test(`${name} shows who types, and that they have stopped after two seconds`, async () => {
    const [ann, bob] = [await enter(WebSocket, name), await enter(WebSocket, name)];
    const event = async () => {
      const { type, channel, from, isTyping } = await bob.next();
      assert.deepEqual([type, channel, from], ['typing', name, ann.user]);
      return isTyping;
    };
    ann.send({ type: 'typing', isTyping: true });
    assert.equal(await event(), true);
    const started = Date.now();
    assert.equal(await event(), false);
    assert.ok(Date.now() - started > 1500, 'the server ends it');
    ann.send({ type: 'typing.start' });
    assert.equal(await event(), true);
    ann.close();
    assert.equal(await event(), false);
    bob.close();
  });

  test(`${name} shows who has read what`, async () => {
    const [ann, bob] = [await enter(WebSocket, name), await enter(WebSocket, name)];
    bob.send({ type: 'message', data: { id: 'm1', text: 'hi' } });
    assert.equal((await bob.next()).type, 'message');
    const { data } = await ann.next();
    ann.send({ type: 'read', ids: [data.id] });
    const { type, from, ids } = await bob.next();
    assert.deepEqual([type, from, ids], ['read', ann.user, ['m1']]);
    ann.close();
    bob.close();
  });
}
