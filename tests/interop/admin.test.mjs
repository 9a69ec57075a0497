// The admin page in headless Chromium, with real clients at the other end of the server.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { TARGET, freePort, launch, require, start } from './support.mjs';

const WebSocket = require('ws');

const KEY = 'a-key-of-the-tests-0123456789';
const ASSETS = fileURLToPath(new URL('../../server/src/control/admin/', import.meta.url));
const PATIENCE_MS = 30_000;

let port;
let apiPort;
let server;
let browser;
let sockets = [];

const origin = () => `http://127.0.0.1:${apiPort}`;

const startServer = (variables = {}) => start('crore', ['--listen', `127.0.0.1:${port}`, '--cores', '2'], port, {
  CRORE_API_ENABLED: 'true',
  CRORE_API_LISTEN: `127.0.0.1:${apiPort}`,
  CRORE_API_KEY: KEY,
  CRORE_IDENTITY_TRUST_USER_HEADER: 'true',
  ...variables,
});

before(async () => {
  [port, apiPort] = [await freePort(), await freePort()];
  server = await startServer();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

afterEach(async () => {
  for (const socket of sockets) socket instanceof net.Socket ? socket.destroy() : socket.terminate();
  sockets = [];
  for (const context of browser.contexts()) await context.close();
});

/** The page before anybody has signed in. `errors` are its own, `requests` all that it asked for. */
async function visit(options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 1000 }, ...options });
  page.setDefaultTimeout(PATIENCE_MS);
  [page.errors, page.requests] = [[], []];
  page.on('pageerror', (error) => page.errors.push(error.message));
  page.on('console', (message) => message.type() === 'error' && page.errors.push(message.text()));
  page.on('request', (request) => page.requests.push(request.url()));
  await page.goto(`${origin()}/admin`);
  return page;
}

async function signIn(page, key = KEY) {
  await page.getByLabel('API key').fill(key);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

const status = (page, text) => page.getByRole('status').filter({ hasText: text }).waitFor();
const notice = (page, text) => page.getByRole('alert').filter({ hasText: text }).waitFor();
const tile = (page, name) => page.getByRole('listitem').filter({ has: page.getByRole('heading', { name, exact: true }) }).locator('strong');
const shows = (place, text) => place.filter({ hasText: text }).waitFor();
const chart = (page, name) => page.getByRole('img', { name: new RegExp(`^${name}, the last five minutes`) });
const rows = (page, region) => page.getByRole('region', { name: region }).locator('tbody tr');

/** What is drawn. */
const drawn = (plot) => plot.locator('canvas').evaluate((canvas) => canvas.toDataURL());

/** A client that has been welcomed and subscribes to some channels. */
async function client(user, channels) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, { headers: { 'X-User-ID': user } });
  sockets.push(socket);
  socket.heard = 0;
  await once(socket, 'message');
  socket.on('message', () => { socket.heard += 1; });
  for (const channel of channels) socket.send(JSON.stringify({ type: 'subscribe', channel }));
  return socket;
}

/** A client that says its name and never reads: more waits for it than the kernel takes. */
async function slowClient(user) {
  const socket = net.connect(port, '127.0.0.1');
  sockets.push(socket);
  socket.on('error', () => {});
  const key = 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
  socket.write(`GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n${key}\r\nX-User-ID: ${user}\r\n\r\n`);
  await once(socket, 'data');
  socket.pause();
  const name = encodeURIComponent(user);
  const { connections: [id] } = await api(`users/${name}`);
  while ((await api(`connections/${id}`)).queued_bytes === 0) await api(`users/${name}/send`, { data: 'x'.repeat(200_000) });
}

async function api(path, body) {
  const headers = { 'X-API-Key': KEY, 'Content-Type': 'application/json' };
  const response = await fetch(`${origin()}/api/${path}`, { headers, ...(body && { method: 'POST', body: JSON.stringify(body) }) });
  assert.equal(response.status, 200, await response.clone().text());
  return response.json();
}

test('the files of uPlot are those of its npm package', async () => {
  const { version, license } = JSON.parse(await readFile(require.resolve('uplot/package.json'), 'utf8'));
  assert.equal(license, 'MIT');
  const dist = path.dirname(require.resolve('uplot/package.json'));
  for (const [ours, theirs] of [['uPlot.iife.min.js', 'dist/uPlot.iife.min.js'], ['uPlot.min.css', 'dist/uPlot.min.css'], ['uPlot.LICENSE', 'LICENSE']]) {
    const [own, original] = await Promise.all([readFile(path.join(ASSETS, ours)), readFile(path.join(dist, theirs))]);
    assert.ok(own.equals(original), `${ours} is not ${theirs} of uplot ${version}, whose integrity package-lock.json has: copy it`);
  }
  assert.ok((await readFile(path.join(ASSETS, 'uPlot.iife.min.js'), 'utf8')).includes(`(v${version})`));
});

// capability: 106
test('the files may be had by anybody, hold nothing secret, and are fetched once', async () => {
  const page = await (await fetch(`${origin()}/admin/`)).text();
  const files = [...page.matchAll(/(?:href|src)="([^":]+)"/g)].map(([, file]) => file);
  assert.ok(files.length >= 5, page);
  for (const file of ['', ...files, 'charts.js', 'format.js']) {
    const response = await fetch(`${origin()}/admin/${file}`);
    const text = await response.text();
    assert.equal(response.status, 200, file);
    assert.ok(!text.includes(KEY), file);
    const policy = response.headers.get('Content-Security-Policy');
    assert.ok(policy.startsWith("default-src 'none'; script-src 'self';") && !policy.includes('unsafe'), policy);
    assert.equal(response.headers.get('X-Content-Type-Options'), 'nosniff');
    const again = await fetch(`${origin()}/admin/${file}`, { headers: { 'If-None-Match': response.headers.get('ETag') } });
    assert.deepEqual([again.status, await again.text()], [304, ''], file);
  }
  assert.equal((await fetch(`${origin()}/admin/../admin/nothing`)).status, 404);
  assert.equal((await fetch(`${origin()}/admin/`, { method: 'POST' })).status, 405);
});

// capability: 106
test('what clients do is seen as it happens', async () => {
  const page = await visit();
  await signIn(page);
  await status(page, /^Live$/);
  await shows(tile(page, 'Connections'), /^0$/);
  const plots = ['Connections', 'Messages a second', 'Traffic a second', 'Memory of connections by class', 'Messages a second by core', 'Output that waits to be read'];
  const before = await Promise.all(plots.map((name) => drawn(chart(page, name))));
  const clients = [];
  for (let number = 0; number < 30; number += 1) {
    clients.push(await client(`user ${number}`, number < 20 ? ['news', 'chat <b>room</b>'] : ['news']));
  }
  await slowClient('slow <i>joe</i>');
  await shows(tile(page, 'Connections'), /^31$/);
  await shows(chart(page, 'Connections').locator('xpath=..').locator('.legend'), /open 31$/);
  const traffic = setInterval(() => clients[0].send(JSON.stringify({ type: 'publish', channel: 'news', data: 'x'.repeat(100) })), 50);
  try {
    await shows(tile(page, 'Messages in'), /^(1\d|2\d)(\.\d)?$/);
    await shows(tile(page, 'Messages out'), /^[3-9]\d\d$/);
    const [slow, news, room] = [rows(page, 'Slow consumers').first(), rows(page, 'Top channels').nth(0), rows(page, 'Top channels').nth(1)];
    await shows(slow, /slow <i>joe<\/i>.*127\.0\.0\.1.*[KM]iB$/);
    await shows(news, /^news30$/);
    await shows(room, /^chat <b>room<\/b>20$/);
    assert.equal(await rows(page, 'Cores').count(), 2);
    const open = await rows(page, 'Cores').locator('td:nth-child(2)').allTextContents();
    assert.equal(open.reduce((sum, text) => sum + Number(text), 0), 31, 'the cores add up');
    for (const meter of await rows(page, 'Cores').getByRole('meter').all()) {
      assert.match(await meter.getAttribute('aria-label'), /% of all connections$/);
    }
    await shows(chart(page, 'Output that waits to be read').locator('xpath=..').locator('.legend'), /[KM]iB$/);
    await sleep(2000);
  } finally {
    clearInterval(traffic);
  }
  for (const [index, name] of plots.entries()) assert.notEqual(await drawn(chart(page, name)), before[index], `${name} has moved`);
  await page.screenshot({ path: path.join(TARGET, 'admin-light.png'), fullPage: true });
  for (const socket of clients) socket.close();
  await shows(tile(page, 'Connections'), /^1$/);
  assert.deepEqual(page.errors, []);
  assert.deepEqual([...new Set(page.requests.map((url) => new URL(url).origin))], [origin()]);
  assert.ok(page.requests.every((url) => !url.includes(KEY)));
});

// capability: 106
test('it is read on a dark and on a narrow screen', async () => {
  const page = await visit({ viewport: { width: 400, height: 900 }, colorScheme: 'dark' });
  await signIn(page);
  await status(page, /^Live$/);
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number)[0]);
  assert.ok(await ground() < 50);
  for (const width of [400, 1280]) {
    await page.setViewportSize({ width, height: 900 });
    await sleep(200);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth) <= width, `nothing is cut off at ${width}`);
    await page.screenshot({ path: path.join(TARGET, `admin-dark-${width}.png`), fullPage: true });
  }
  const dark = await drawn(chart(page, 'Connections'));
  await page.emulateMedia({ colorScheme: 'light' });
  await status(page, /^Live$/);
  assert.ok(await ground() > 200);
  assert.notEqual(await drawn(chart(page, 'Connections')), dark, 'the charts change their colours');
  assert.deepEqual(page.errors, []);
});

// capability: 106
test('a wrong key is said to be wrong, and forgotten', async () => {
  const page = await visit();
  for (const [key, why] of [['another-key-0123456789', /does not open/], ['kéy of letters', /visible ASCII/]]) {
    await signIn(page, key);
    await notice(page, why);
    assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  }
  await signIn(page);
  await status(page, /^Live$/);
  assert.equal(await page.getByRole('alert').count(), 0);
  await page.reload();
  await status(page, /^Live$/);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await status(page, /^Signed out$/);
  await page.reload();
  await page.getByLabel('API key').waitFor();
  assert.ok(page.errors.every((error) => /401/.test(error)), page.errors.join());
});

// capability: 106
test('a server that is away is waited for', async () => {
  const page = await visit();
  await signIn(page);
  await status(page, /^Live$/);
  await client('ann', []);
  await shows(tile(page, 'Connections'), /^1$/);
  await server.stop();
  await notice(page, /has not answered since \d\d:\d\d:\d\d/);
  server = await startServer();
  await status(page, /^Live$/);
  await shows(tile(page, 'Connections'), /^0$/);
  assert.equal(await page.getByRole('alert').count(), 0);
  // Another key means that whoever looks has to sign in again; none, that nobody can.
  for (const [key, why] of [['another-key-0123456789', /does not open/], [undefined, /CRORE_API_KEY/]]) {
    await server.stop();
    server = await startServer({ CRORE_API_KEY: key });
    if (!key) await signIn(page);
    await notice(page, why);
    await page.getByLabel('API key').waitFor();
  }
  await server.stop();
  server = await startServer();
  assert.ok(page.errors.every((error) => /ERR_|401|403/.test(error)), page.errors.join());
});

// capability: 106
test('nothing is asked while nobody looks', async () => {
  const page = await visit();
  await signIn(page);
  await status(page, /^Live$/);
  const look = (hidden) => page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
  await look(true);
  await sleep(1500);
  const asked = page.requests.length;
  await sleep(2500);
  assert.equal(page.requests.length, asked);
  const [request] = await Promise.all([page.waitForRequest(/api\/stats$/), look(false)]);
  assert.equal(request.headers().authorization, `Bearer ${KEY}`);
  await status(page, /^Live$/);
  assert.deepEqual(page.errors, []);
});
