// The client class that applications have, as it is, in what it was written for: headless Chromium.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { freePort, launch, start } from './support.mjs';

const source = readFileSync(new URL('server/websocket-client.js', import.meta.url), 'utf8');

let port;
let server;
let browser;

const startServer = () => start('crore', ['--listen', `127.0.0.1:${port}`, '--cores', '2'], port);

before(async () => {
  port = await freePort();
  server = await startServer();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A page with a client of the class that is connected, as `client`, and all its events in `events`. */
async function open(options = {}) {
  const page = await browser.newPage();
  page.setDefaultTimeout(60_000);
  await page.evaluate(
    async ([source, url, options]) => {
      const WebSocketClient = new Function(`${source}\nreturn WebSocketClient;`)();
      globalThis.events = [];
      globalThis.client = new WebSocketClient(url, options);
      for (const name of ['connected', 'disconnected', 'error', 'message', 'pong', 'reconnect_failed']) {
        client.on(name, (event) => events.push({ name, code: event?.code, type: event?.type, data: event?.data }));
      }
      await client.connect();
    },
    [source, `ws://127.0.0.1:${port}/ws`, options],
  );
  return page;
}

const count = (page, name) => page.evaluate((name) => events.filter((event) => event.name === name).length, name);

const wait = (page, name, number) =>
  page.waitForFunction(([name, number]) => events.filter((event) => event.name === name).length >= number, [name, number]);

const heard = (page, data) =>
  page.waitForFunction((data) => events.some((event) => event.type === 'message' && event.data === data), data);

// capability: 24 36 38 39
test('a page subscribes, publishes and asks', async () => {
  const [alice, bob] = [await open(), await open({ pingInterval: 50 })];
  for (const page of [alice, bob]) {
    const reply = await page.evaluate(() => client.subscribe('chat:room1'));
    assert.deepEqual([reply.type, reply.channel], ['subscribed', 'chat:room1']);
  }
  await alice.evaluate(() => client.publish('chat:room1', 'hello'));
  for (const page of [alice, bob]) await heard(page, 'hello');
  const answer = await alice.evaluate(() => client.request({ type: 'publish', channel: 'chat:room1', data: 'again' }));
  assert.deepEqual(answer.data, { published: true });
  await heard(bob, 'again');
  const refused = await alice.evaluate(() => client.request({ type: 'dance' }).catch((error) => error.message));
  assert.equal(refused, 'Unknown message type: dance');
  await wait(bob, 'pong', 2);
});

// capability: 29 86
test('a page finds back when the server has been away for several attempts, and works on', async () => {
  const [patient, hasty] = [await open({ reconnectDelay: 500 }), await open({ reconnectDelay: 10, maxReconnectAttempts: 2 })];
  assert.equal(await server.stop(), 0);
  for (const page of [patient, hasty]) await wait(page, 'disconnected', 1);
  assert.deepEqual(await patient.evaluate(() => events.find((event) => event.name === 'disconnected').code), 1001);
  // One end is that of the connection, the others are attempts that failed.
  await wait(patient, 'disconnected', 3);
  await wait(hasty, 'reconnect_failed', 1);
  server = await startServer();
  await wait(patient, 'connected', 2);
  await patient.evaluate(() => client.subscribe('after'));
  await patient.evaluate(() => client.publish('after', 'the restart'));
  await heard(patient, 'the restart');
  await sleep(1000);
  assert.deepEqual([await count(hasty, 'connected'), await count(hasty, 'disconnected')], [1, 3], 'it has given up');
});
