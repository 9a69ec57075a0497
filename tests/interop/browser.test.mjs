// Chromium's own WebSocket, headless, against the echo example on two cores.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';

import { launch, serve } from './support.mjs';
import { relay } from './wire.mjs';

// The largest message that the engine takes unless it is told otherwise.
const MESSAGE_BYTES_MAX = 1024 * 1024;
const SIZES = [0, 1, 125, 126, 1023, 1024, 65535, 65536, 1000000, MESSAGE_BYTES_MAX];
const CLOSES = [[1000, ''], [3000, 'é'.repeat(61)], [4999, 'x'.repeat(123)]];

// A page has to come from somewhere: a blank one of this host may connect to this host.
const pages = http.createServer((_, response) => {
  response.setHeader('Content-Type', 'text/html').end('<!doctype html>');
});
let browser;
let page;

/** What the tests need within the page. */
function helpers() {
  const bytes = async (data) => new Uint8Array(data instanceof Blob ? await data.arrayBuffer() : data);

  window.open = (url, protocols = []) =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(url, protocols);
      socket.closed = new Promise((closed) => {
        socket.onclose = ({ code, reason, wasClean }) => closed({ code, reason, wasClean });
      });
      socket.onopen = () => resolve(socket);
      socket.onerror = () => reject(new Error('no connection'));
    });

  window.answer = (socket) => new Promise((resolve) => (socket.onmessage = ({ data }) => resolve(data)));

  /** Sends something, and returns the type of what comes back, or how it differs. */
  window.echoed = async (socket, message) => {
    socket.send(message);
    const data = await answer(socket);
    if (typeof message === 'string') return data === message ? 'string' : `other text: ${data.length}`;
    const [sent, got] = [await bytes(message), await bytes(data)];
    const same = sent.length === got.length && sent.every((byte, at) => byte === got[at]);
    return same ? data.constructor.name : `other bytes: ${got.length}`;
  };

  /** Bytes that do not become smaller. */
  window.noise = (size) => {
    const noise = new Uint8Array(size);
    for (let at = 0; at < size; at += 65536) crypto.getRandomValues(noise.subarray(at, at + 65536));
    return noise;
  };
}

before(async () => {
  browser = await launch();
  page = await browser.newPage();
  await page.addInitScript(helpers);
  await once(pages.listen(0, '127.0.0.1'), 'listening');
  await page.goto(`http://127.0.0.1:${pages.address().port}/`);
});

after(async () => {
  await browser?.close();
  pages.close();
});

// What the example is told of compression, and what Chromium says is agreed.
const MODES = [
  { args: [], extensions: '' },
  {
    args: ['--compress'],
    extensions: 'permessage-deflate; server_no_context_takeover; client_no_context_takeover',
  },
  { args: ['--compress=takeover'], extensions: 'permessage-deflate' },
];

for (const { args, extensions } of MODES) {
  describe(`echo ${args}`, () => {
    let server;
    let wire;

    before(async () => {
      server = await serve('examples/echo', ['--cores', '2', ...args]);
      wire = await relay(server.port);
    });

    beforeEach(() => wire.forget());

    afterEach(() => wire.connections.forEach((connection) => connection.check()));

    after(async () => {
      wire?.stop();
      await server?.stop();
    });

    test('text', async () => {
      const heard = await page.evaluate(
        async ([url, sizes]) => {
          const socket = await open(url);
          const beyondAscii = 'κόσμε, 世界, 🦇, \0';
          const messages = [...sizes.map((size) => 'x'.repeat(size)), beyondAscii, beyondAscii.repeat(10000)];
          const heard = [];
          for (const message of messages) heard.push(await echoed(socket, message));
          socket.close();
          return heard;
        },
        [wire.url, SIZES],
      );
      assert.deepEqual(heard, Array(SIZES.length + 2).fill('string'));
    });

    for (const binaryType of ['blob', 'arraybuffer']) {
      test(`binary as ${binaryType}`, async () => {
        const heard = await page.evaluate(
          async ([url, sizes, binaryType]) => {
            const socket = await open(url);
            socket.binaryType = binaryType;
            const heard = new Set();
            for (const size of sizes) {
              const bytes = noise(size);
              // All that a page may send: a buffer, a view of one, a Blob.
              for (const message of [bytes.buffer, bytes.subarray(size / 2), new Blob([bytes])]) {
                heard.add(await echoed(socket, message));
              }
            }
            heard.add(await echoed(socket, new Float32Array(64).fill(0.5).buffer));
            socket.close();
            return [...heard];
          },
          [wire.url, SIZES, binaryType],
        );
        assert.deepEqual(heard, [binaryType === 'blob' ? 'Blob' : 'ArrayBuffer']);
      });
    }

    test('many messages in flight keep their order', async () => {
      const order = await page.evaluate(async (url) => {
        const socket = await open(url);
        const heard = [];
        const all = new Promise((resolve) => {
          socket.onmessage = ({ data }) => heard.push(data) === 1000 && resolve();
        });
        const messages = Array.from({ length: 1000 }, (_, number) => `${number} `.repeat(number));
        for (const message of messages) socket.send(message);
        await all;
        socket.close();
        return messages.every((message, at) => message === heard[at]);
      }, wire.url);
      assert.ok(order);
    });

    test('its close is answered', async () => {
      for (const [code, reason] of [...CLOSES, []]) {
        const end = await page.evaluate(
          async ([url, code, reason]) => {
            const socket = await open(url);
            if (code) socket.close(code, reason);
            else socket.close();
            return socket.closed;
          },
          [wire.url, code, reason],
        );
        assert.deepEqual([end.code, end.wasClean], [code ?? 1005, true]);
        assert.equal(wire.connections.at(-1).server.closeCode, code);
      }
    });

    test('a message beyond the limit is closed with 1009', async () => {
      for (const how of ['compressible', 'noise']) {
        const end = await page.evaluate(
          async ([url, size, how]) => {
            const socket = await open(url);
            socket.send(how === 'noise' ? noise(size) : new Uint8Array(size));
            return socket.closed;
          },
          [wire.url, MESSAGE_BYTES_MAX + 1, how],
        );
        assert.deepEqual([end.code, end.wasClean], [1009, true]);
        assert.match(end.reason, /message/);
      }
    });

    test('compression is agreed on if both want it', async () => {
      const said = await page.evaluate(async (url) => {
        const socket = await open(url);
        const half = Array.from(noise(2000), (byte) => byte.toString(16)).join('');
        for (const message of ['x', noise(5000), half, half]) await echoed(socket, message);
        socket.close();
        return socket.extensions;
      }, wire.url);
      assert.equal(said, extensions);
      const [{ offer, client, server }] = wire.connections;
      assert.match(offer, /permessage-deflate/);
      // Chromium compresses whatever it sends, the engine what gains by it.
      assert.deepEqual(client.messages.map(({ rsv }) => rsv), Array(4).fill(extensions ? 4 : 0));
      assert.deepEqual(server.messages.map(({ rsv }) => rsv), extensions ? [0, 0, 4, 4] : [0, 0, 0, 0]);
      const [first, again] = server.messages.slice(2).map(({ length }) => length);
      if (args.includes('--compress=takeover')) assert.ok(again < first / 10, `${again} after ${first}`);
      else assert.equal(again, first);
    });

    test('no subprotocol is chosen that nobody knows, and that is refused', async () => {
      const connected = page.evaluate((url) => open(url, ['chat', 'superchat']), wire.url);
      await assert.rejects(connected, /no connection/);
      assert.equal(wire.connections[0].server.header('sec-websocket-protocol'), undefined);
    });
  });
}

describe('a server that does what it is told', () => {
  let server;

  before(async () => {
    server = await serve('examples/actor');
  });

  after(() => server?.stop());

  test('its close has code and reason, and is clean', async () => {
    for (const [code, reason] of [...CLOSES, [1001, 'leaving'], [1012, 'again soon']]) {
      const end = await page.evaluate(
        async ([url, command]) => {
          const socket = await open(url);
          socket.send(command);
          return socket.closed;
        },
        [server.url, `close ${code} ${reason}`],
      );
      assert.deepEqual(end, { code, reason, wasClean: true });
    }
  });

  test('an end without a close is not clean', async () => {
    const end = await page.evaluate(async (url) => {
      const socket = await open(url);
      socket.send('terminate');
      return socket.closed;
    }, server.url);
    assert.deepEqual(end, { code: 1006, reason: '', wasClean: false });
  });

  test('the subprotocol is one of those offered', async () => {
    const protocol = await page.evaluate(async (url) => {
      const socket = await open(`${url}chat`, ['superchat', 'chat']);
      socket.close();
      return socket.protocol;
    }, server.url);
    assert.equal(protocol, 'chat');
  });
});
