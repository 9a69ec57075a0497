// The server's page in headless Chromium, used as a newcomer would.

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';

import { TARGET, freePort, launch, start } from './support.mjs';

let port;
let server;
let browser;

const startServer = () => start('crore', ['--listen', `127.0.0.1:${port}`], port);

before(async () => {
  port = await freePort();
  server = await startServer();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** A window on the page that is connected, and the errors that it has met. */
async function open() {
  const page = await browser.newPage({ viewport: { width: 1100, height: 800 } });
  page.setDefaultTimeout(30_000);
  page.errors = [];
  page.on('pageerror', (error) => page.errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && page.errors.push(message.text()));
  await page.goto(`http://127.0.0.1:${port}/`);
  await page.getByRole('status').filter({ hasText: /^Connected$/ }).waitFor();
  return page;
}

async function subscribe(page, channel) {
  await page.getByLabel('Subscribe to').fill(channel);
  await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
  await page.getByRole('list', { name: 'Subscribed channels' }).getByText(channel).waitFor();
}

async function publish(page, channel, text) {
  await page.getByLabel('Channel', { exact: true }).fill(channel);
  await page.getByRole('textbox', { name: /^Message/ }).fill(text);
  await page.getByRole('button', { name: 'Publish' }).click();
}

// capability: 25 38
test('two windows talk to each other, and see how long it takes', async () => {
  const [first, second] = [await open(), await open()];
  for (const page of [first, second]) await subscribe(page, 'chat:room1');
  await publish(first, 'chat:room1', 'Hello from the first <b>window</b>');
  await publish(second, 'chat:room1', '{"n": 1}');
  for (const page of [first, second]) {
    const log = page.getByRole('log');
    await log.getByText('Hello from the first <b>window</b>').waitFor();
    await log.getByText('"n": 1').waitFor();
    await page.getByLabel('Round trip').filter({ hasText: /^[\d.]+ ms$/ }).waitFor();
  }
  await first.screenshot({ path: path.join(TARGET, 'page.png') });
  assert.deepEqual([...first.errors, ...second.errors], []);
});

test('nothing is shown of a channel that was left', async () => {
  const [reader, writer] = [await open(), await open()];
  for (const channel of ['left', 'kept']) await subscribe(reader, channel);
  await reader.getByRole('button', { name: 'Unsubscribe from left' }).click();
  await publish(writer, 'left', 'unheard');
  await publish(writer, 'kept', 'heard');
  await reader.getByRole('log').getByText('heard', { exact: true }).waitFor();
  assert.equal(await reader.getByRole('log').getByText('unheard').count(), 0);
});

// capability: 86 88
test('the page connects again by itself', async () => {
  const page = await open();
  const status = page.getByRole('status');
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await status.filter({ hasText: /^Disconnected$/ }).waitFor();
  await page.getByRole('button', { name: 'Connect', exact: true }).click();
  await status.filter({ hasText: /^Connected$/ }).waitFor();
  assert.equal(await server.stop(), 0);
  await status.filter({ hasText: /^Reconnecting/ }).waitFor();
  server = await startServer();
  await status.filter({ hasText: /^Connected$/ }).waitFor();
});
