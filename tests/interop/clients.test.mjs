// Node's WebSocket clients against the echo example on two cores: each meets every case in every mode.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';

import { CLIENTS } from './clients.mjs';
import { serve } from './support.mjs';
import { relay } from './wire.mjs';

// The largest message that the engine takes unless it is told otherwise.
const MESSAGE_BYTES_MAX = 1024 * 1024;
// Both sides of the borders between the forms of a frame's length, of the threshold, and of a receive buffer.
const SIZES = [0, 1, 125, 126, 127, 1023, 1024, 16383, 16384, 65535, 65536, 65537, 1000000, MESSAGE_BYTES_MAX];
// How long a client's cases may take before one of them counts as hung.
const PATIENCE_MS = 120_000;
const CLOSES = [[1000, ''], [3000, 'é'.repeat(61)], [4999, 'x'.repeat(123)]];
const BEYOND_ASCII = 'κόσμε, 世界, 🦇, \0';

async function echoed(client, message) {
  const answer = client.receive();
  client.send(message);
  same(await answer, message);
}

function same(answer, message) {
  assert.equal(typeof answer, typeof message);
  const equal = typeof message === 'string' ? answer === message : answer.equals(message);
  assert.ok(equal, `${answer.length} came back, and not what went: ${message.length}`);
}

/** Text that becomes smaller, of words that are the same in every run. */
function prose(words) {
  return Array.from({ length: words }, (_, at) => ['lorem', 'ipsum', 'dolor', 'sit', 'amet'][(at * at) % 5] + (at % 37)).join(' ');
}

for (const Client of CLIENTS) {
  describe(Client.name, { timeout: PATIENCE_MS }, () => {
    let server;
    let wire;
    let opened = [];

    async function open(options) {
      const client = await Client.open(wire.url, options);
      opened.push(client);
      return client;
    }

    before(async () => {
      server = await serve('examples/echo', ['--cores', '2']);
      wire = await relay(server.port);
    });

    beforeEach(() => wire.forget());

    afterEach(() => {
      for (const client of opened.splice(0)) client.leave();
      for (const connection of wire.connections) connection.check();
    });

    after(async () => {
      wire?.stop();
      await server?.stop();
    });

    test('text of every length', async () => {
      const client = await open();
      for (const size of SIZES) await echoed(client, 'x'.repeat(size));
      await echoed(client, BEYOND_ASCII);
      await echoed(client, BEYOND_ASCII.repeat(10000));
    });

    test('binary of every length', async () => {
      const client = await open();
      for (const size of SIZES) await echoed(client, randomBytes(size));
    });

    test('many messages in flight keep their order', async () => {
      const client = await open();
      const messages = Array.from({ length: 1000 }, (_, number) => prose(number % 400));
      for (const message of messages) client.send(message);
      for (const message of messages) same(await client.receive(), message);
    });

    test('fragments are joined, and a ping between them is answered at once', { skip: !Client.fragments }, async () => {
      const client = await open();
      const euro = Buffer.from('€');
      await client.sendFragments([euro.subarray(0, 1), Buffer.alloc(0), euro.subarray(1)], true, async () => {
        same(await client.ping('between'), Buffer.from('between'));
      });
      assert.equal(await client.receive(), '€');
      for (const piece of [randomBytes(1000), Buffer.from(prose(100)), Buffer.alloc(0)]) {
        await client.sendFragments(Array(300).fill(piece), false);
        same(await client.receive(), Buffer.concat(Array(300).fill(piece)));
      }
      await client.sendFragments(Array(100).fill(Buffer.from(BEYOND_ASCII)), true);
      assert.equal(await client.receive(), BEYOND_ASCII.repeat(100));
    });

    test('pings of every length', async () => {
      const client = await open();
      for (const size of [0, 1, 8, 125]) {
        const payload = randomBytes(size);
        same(await client.ping(payload), payload);
      }
      await echoed(client, 'still here');
    });

    for (const [code, reason] of CLOSES) {
      test(`the client's close with ${code} is answered with its code`, async () => {
        const client = await open();
        await echoed(client, 'last words');
        const end = await client.close(code, reason);
        assert.equal(end.code, code);
        assert.ok(end.wasClean ?? true);
        assert.equal(wire.connections[0].server.closeCode, code);
      });
    }

    test('a close without a code is answered without one', { skip: !Client.closesWithoutCode }, async () => {
      const client = await open();
      assert.equal((await client.close()).code, 1005);
      assert.equal(wire.connections[0].server.closeCode, undefined);
    });

    test('a message beyond the limit is closed with 1009', async () => {
      // Compressed, the first fits into any limit; the second does not become smaller.
      for (const message of [Buffer.alloc(MESSAGE_BYTES_MAX + 1), randomBytes(MESSAGE_BYTES_MAX + 1)]) {
        const client = await open();
        await echoed(client, 'before');
        client.send(message);
        const { code, reason, wasClean } = await client.closed();
        assert.equal(code, 1009);
        assert.match(reason, /message/);
        assert.ok(wasClean ?? true);
      }
    });

    test('no subprotocol is chosen that nobody knows, and that is refused', async () => {
      await assert.rejects(open({ protocols: ['chat', 'superchat'] }));
      assert.equal(wire.connections[0].server.header('sec-websocket-protocol'), undefined);
      assert.equal((await open()).protocol, '');
    });

    test('an offer of compression is passed over', { skip: !Client.offers }, async () => {
      const client = await open();
      await echoed(client, prose(1000));
      assert.match(wire.connections[0].offer, /permessage-deflate/);
      assert.equal(wire.connections[0].agreed, undefined);
      assert.equal(client.extensions, '');
    });

    test('many clients at once', async () => {
      await Promise.all(
        Array.from({ length: 60 }, async (_, number) => {
          const client = await open();
          for (let round = 0; round < 5; round++) await echoed(client, `${number} ${round} `.repeat(200));
        }),
      );
    });
  });
}

describe('a server that does what it is told', () => {
  let server;

  before(async () => {
    server = await serve('examples/actor');
  });

  after(() => server?.stop());

  for (const Client of CLIENTS) {
    for (const [code, reason] of CLOSES) {
      test(`${Client.name} sees its close with ${code}`, async () => {
        const client = await Client.open(server.url);
        client.send(`close ${code} ${reason}`);
        const end = await client.closed();
        assert.deepEqual([end.code, end.reason, end.wasClean ?? true], [code, reason || Client.noReason, true]);
      });
    }

    test(`${Client.name} sees the subprotocol that is chosen`, async () => {
      const client = await Client.open(`${server.url}chat`, { protocols: ['superchat', 'chat'] });
      assert.equal(client.protocol, 'chat');
      client.leave();
    });
  }
});
