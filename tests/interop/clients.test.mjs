// Node's WebSocket clients against the echo example on two cores: each meets every case in every mode.

import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';

import { CLIENTS } from './clients.mjs';
import { serve } from './support.mjs';
import { relay } from './wire.mjs';

// The largest message that the engine takes unless it is told otherwise.
const MESSAGE_BYTES_MAX = 1024 * 1024;
// Messages below it are not compressed by the engine.
const THRESHOLD_BYTES = 1024;
// Both sides of the borders between the forms of a frame's length, of the threshold, and of a receive buffer.
const SIZES = [0, 1, 125, 126, 127, 1023, 1024, 16383, 16384, 65535, 65536, 65537, 1000000, MESSAGE_BYTES_MAX];
// How long a client's cases may take before one of them counts as hung.
const PATIENCE_MS = 120_000;
const CLOSES = [[1000, ''], [3000, 'é'.repeat(61)], [4999, 'x'.repeat(123)]];
const BEYOND_ASCII = 'κόσμε, 世界, 🦇, \0';

// The bytes are arbitrary, and the same in every run.
const random = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16));
const randomBytes = (size) => random.update(Buffer.alloc(size));
const choice = (among) => among[randomBytes(4).readUInt32LE() % among.length];

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

/** Text that becomes much smaller, the same in every run. */
function prose(words) {
  return Array.from({ length: words }, (_, at) => ['lorem', 'ipsum', 'dolor'][(at * at) % 3] + (at % 37)).join(' ');
}

/** Text that becomes smaller by half, but has no words to refer back to. */
function text(size) {
  return randomBytes(size / 2).toString('hex');
}

// What the example is told of compression, and the parameters that follow for who offers it.
const NO_TAKEOVER = { server_no_context_takeover: true, client_no_context_takeover: true };
const MODES = [
  { name: 'plain', args: [] },
  { name: 'compressed', args: ['--compress'], agreed: NO_TAKEOVER },
  { name: 'takeover', args: ['--compress=takeover'], agreed: {} },
];

for (const [Client, mode] of CLIENTS.flatMap((Client) => MODES.map((mode) => [Client, mode]))) {
  // What is agreed on with this client.
  const agreed = Client.offers ? mode.agreed : undefined;

  describe(`${Client.name}, ${mode.name}`, { timeout: PATIENCE_MS }, () => {
    let server;
    let wire;
    let opened = [];

    async function open(options) {
      const client = await Client.open(wire.url, options);
      opened.push(client);
      return client;
    }

    before(async () => {
      server = await serve('examples/echo', ['--cores', '2', ...mode.args]);
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
      const begun = wire.connections[0].client.messages;
      assert.deepEqual(begun.map(({ fin }) => fin), Array(5).fill(false));
      assert.deepEqual(begun.map(({ rsv }) => rsv), Array(5).fill(agreed && Client.compresses ? 4 : 0));
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

    test('compression is agreed on if both want it', async () => {
      const client = await open();
      await echoed(client, prose(1000));
      const [connection] = wire.connections;
      assert.equal(/permessage-deflate/.test(connection.offer), Client.offers);
      assert.deepEqual(connection.agreed, agreed);
      assert.equal(client.extensions.includes('permessage-deflate'), agreed !== undefined);
      assert.equal(connection.server.messages[0].rsv, agreed ? 4 : 0);
      assert.equal(connection.client.messages[0].rsv, agreed && Client.compresses ? 4 : 0);
    });

    describe('permessage-deflate', { skip: agreed === undefined }, () => {
      /** The frame by which a message has come back. */
      async function echoedFrame(client, message) {
        await echoed(client, message);
        return wire.connections.at(-1).server.messages.at(-1);
      }

      test('only what gains by it is compressed', async () => {
        const client = await open();
        for (const size of [0, 1, 125, THRESHOLD_BYTES - 1]) {
          assert.equal((await echoedFrame(client, 'x'.repeat(size))).rsv, 0);
        }
        for (const size of [THRESHOLD_BYTES, 65536, MESSAGE_BYTES_MAX]) {
          assert.equal((await echoedFrame(client, text(size))).rsv, 4);
          assert.equal((await echoedFrame(client, randomBytes(size))).rsv, 0);
        }
      });

      test('messages refer to earlier ones only if that is agreed', async () => {
        const client = await open();
        const message = text(3000);
        const [first, again] = [await echoedFrame(client, message), await echoedFrame(client, message)];
        // What is not compressed in between is not referred to, and does not matter.
        await echoed(client, randomBytes(3000));
        for (const { length } of [again, await echoedFrame(client, message)]) {
          if (agreed.server_no_context_takeover) assert.equal(length, first.length);
          else assert.ok(length < first.length / 10, `${length} after ${first.length}`);
        }
      });

      /** All kinds of messages, of which many look like earlier ones. */
      async function exchange(client, count) {
        const blocks = [text(2000), 'x'.repeat(2000), BEYOND_ASCII.repeat(50)];
        for (let number = 0; number < 20; number++) blocks.push(text(20));
        for (let number = 0; number < count; number++) {
          const message = Array.from({ length: choice([0, 1, 10, 50]) }, () => choice(blocks)).join('');
          if (number % 4 === 1) await echoed(client, Buffer.from(message));
          else if (number % 4 === 3) await echoed(client, randomBytes(choice([1, 2000, 70000])));
          else await echoed(client, message);
        }
        const { client: sent, server: heard } = wire.connections.at(-1);
        assert.ok(heard.messages.some(({ rsv }) => rsv === 4));
        assert.equal(sent.messages.some(({ rsv }) => rsv === 4), Client.compresses);
      }

      test('message after message', async () => exchange(await open(), 400));

      test('every window', { skip: !Client.offersWindows }, async () => {
        for (let bits = 8; bits <= 15; bits++) {
          for (const flag of [false, true]) {
            // The smallest window is one that it decompresses, but can't compress.
            const deflate = {
              serverMaxWindowBits: bits,
              clientMaxWindowBits: Math.max(23 - bits, 9),
              serverNoContextTakeover: flag || undefined,
              clientNoContextTakeover: flag !== (bits % 2 === 0) || undefined,
            };
            const client = await open({ deflate });
            const is = wire.connections.at(-1).agreed;
            assert.equal(is.server_max_window_bits, bits);
            assert.ok((is.client_max_window_bits ?? 15) <= deflate.clientMaxWindowBits);
            const noTakeover = { ...mode.agreed };
            if (deflate.serverNoContextTakeover) noTakeover.server_no_context_takeover = true;
            if (deflate.clientNoContextTakeover) noTakeover.client_no_context_takeover = true;
            assert.deepEqual({ ...is, ...noTakeover }, is);
            await exchange(client, 20);
          }
        }
      });
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
