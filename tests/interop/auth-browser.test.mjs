// Tokens from a page in headless Chromium: what it can bring, and what it can see of a refusal.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { launch, serveConfigured } from './support.mjs';

let server;
let browser;
let page;
let token;

before(async () => {
  server = await serveConfigured((port) => `
    [http]
    allowed_origins = ["http://127.0.0.1:${port}"]
    origin_rejection = "1008"
    [auth]
    mode = "required"
    secret = "a secret of more than thirty-two bytes"
    sources = ["query", "subprotocol", "cookie", "message"]
  `);
  token = await server.token('ann');
  browser = await launch();
  page = await browser.newPage();
  await page.goto(server.page);
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

/** What a page hears: the first message, or the end. */
function hear(on, path = '', protocols = [], first = null) {
  return on.evaluate(([address, protocols, first]) => new Promise((resolve) => {
    const socket = new WebSocket(address, protocols);
    const heard = [];
    socket.onopen = () => first && socket.send(first);
    socket.onmessage = ({ data }) => {
      heard.push(JSON.parse(data));
      if (heard.at(-1).type === 'authenticated') resolve({ user: heard.at(-1).user_id, protocol: socket.protocol });
    };
    socket.onclose = ({ code, reason }) => resolve({ code, reason, error: heard.at(-1)?.error });
  }), [server.url + path, protocols, first]);
}

// capability: 53 54 55 56
test('a page brings a token in every way that it has', async () => {
  assert.deepEqual(await hear(page, `?token=${token}`), { user: 'ann', protocol: '' });
  assert.deepEqual(await hear(page, '', ['crore', `auth.${token}`]), { user: 'ann', protocol: 'crore' });
  const message = JSON.stringify({ type: 'auth', token });
  assert.deepEqual(await hear(page, '', [], message), { user: 'ann', protocol: '' });
  await page.context().addCookies([{ name: 'token', value: token, url: server.url.replace('ws:', 'http:') }]);
  assert.deepEqual(await hear(page), { user: 'ann', protocol: '' });
  await page.context().clearCookies();
});

// capability: 54
test('a page that offers nothing but a token is not connected', async () => {
  assert.equal((await hear(page, '', [`auth.${token}`])).code, 1006);
});

// capability: 5 58 63
test('a page can read why it is refused', async () => {
  const failed = { code: 4001, reason: 'Authentication failed', error: 'Invalid token' };
  assert.deepEqual(await hear(page, '?token=garbage'), failed);
  const stranger = await browser.newPage();
  // The same page by another name has another origin.
  await stranger.goto(page.url().replace('127.0.0.1', 'localhost'));
  assert.deepEqual(await hear(stranger, `?token=${token}`), { code: 1008, reason: 'Origin not allowed', error: undefined });
});
