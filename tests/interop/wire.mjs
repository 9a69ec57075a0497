// What really goes over the wire: a relay that reads along, since most clients do not tell.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';

/** The bytes from one side: an HTTP head, then frames. */
class Direction {
  head = null;
  /**
   * As they were sent: `length` is that of the payload, compressed if `rsv` says so. The payload itself is there for
   * the control frames of a server.
   */
  frames = [];
  #buffer = Buffer.alloc(0);
  // Bytes of the last frame that are still to come.
  #rest = 0;

  feed(data) {
    const passed = Math.min(this.#rest, data.length);
    this.#rest -= passed;
    this.#buffer = Buffer.concat([this.#buffer, data.subarray(passed)]);
    if (this.head === null) {
      const end = this.#buffer.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.head = this.#buffer.toString('latin1', 0, end);
      this.#buffer = this.#buffer.subarray(end + 4);
    }
    while (this.#parseFrame());
  }

  /** Takes a frame from the buffer; false if its header is not there yet (RFC 6455, section 5.2). */
  #parseFrame() {
    const buffer = this.#buffer;
    if (buffer.length < 2) return false;
    const [masked, short] = [(buffer[1] & 0x80) !== 0, buffer[1] & 0x7f];
    const extended = { 126: 2, 127: 8 }[short] ?? 0;
    const start = 2 + extended + (masked ? 4 : 0);
    if (buffer.length < start) return false;
    const length = extended === 0 ? short : extended === 2 ? buffer.readUInt16BE(2) : Number(buffer.readBigUInt64BE(2));
    const frame = { fin: buffer[0] >= 0x80, rsv: (buffer[0] >> 4) & 7, opcode: buffer[0] & 0xf, masked, length };
    if (frame.opcode >= 8 && !masked) {
      if (buffer.length < start + length) return false;
      frame.payload = Buffer.from(buffer.subarray(start, start + length));
    }
    this.frames.push(frame);
    const end = Math.min(start + length, buffer.length);
    this.#rest = start + length - end;
    this.#buffer = buffer.subarray(end);
    return true;
  }

  /** The frames that messages begin with. */
  get messages() {
    return this.frames.filter(({ opcode }) => opcode === 1 || opcode === 2);
  }

  /** The code of the close frame; nothing if it has none. */
  get closeCode() {
    const { payload } = this.frames.find(({ opcode }) => opcode === 8);
    return payload.length ? payload.readUInt16BE() : undefined;
  }

  /** A header of the HTTP head, or nothing. */
  header(name) {
    const line = this.head.split('\r\n').find((line) => line.toLowerCase().startsWith(`${name}:`));
    return line?.slice(name.length + 1).trim();
  }
}

/** A connection that has been relayed, and what each side has said. */
class Connection {
  client = new Direction();
  server = new Direction();

  get offer() {
    return this.client.header('sec-websocket-extensions');
  }

  /** The parameters of permessage-deflate that the server has chosen, or nothing if it has not chosen it. */
  get agreed() {
    const header = this.server.header('sec-websocket-extensions');
    if (header === undefined) return undefined;
    const [name, ...parameters] = header.split(';').map((part) => part.trim());
    assert.ok(name === 'permessage-deflate' && !header.includes(','), header);
    const pairs = parameters.map((parameter) => parameter.split('='));
    const agreed = Object.fromEntries(pairs.map(([name, value]) => [name, value === undefined || Number(value)]));
    assert.equal(Object.keys(agreed).length, parameters.length, `a parameter comes twice: ${header}`);
    return agreed;
  }

  /** What holds whatever was said. */
  check() {
    for (const [{ frames }, masked] of [[this.client, true], [this.server, false]]) {
      for (const frame of frames) {
        const mayBeCompressed = this.agreed !== undefined && (frame.opcode === 1 || frame.opcode === 2);
        assert.ok(frame.rsv === 0 || (mayBeCompressed && frame.rsv === 4), JSON.stringify(frame));
        assert.equal(frame.masked, masked);
        assert.ok(masked || frame.fin, 'the server sends no fragments');
      }
    }
  }
}

/** Listens in front of another port of this host. Its `connections` are those since `forget` was called. */
export async function relay(port) {
  const wire = { connections: [], forget: () => wire.connections.splice(0) };
  const sockets = new Set();
  const listener = net.createServer({ allowHalfOpen: true }, (client) => {
    const server = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const connection = new Connection();
    wire.connections.push(connection);
    for (const [from, to, direction] of [[client, server, connection.client], [server, client, connection.server]]) {
      sockets.add(from);
      from.setNoDelay();
      from.on('data', (data) => direction.feed(data));
      from.pipe(to);
      // A reset is passed on as one.
      from.on('error', () => to.resetAndDestroy());
      from.on('close', () => sockets.delete(from));
    }
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  wire.url = `ws://127.0.0.1:${listener.address().port}/`;
  wire.stop = () => {
    listener.close();
    for (const socket of sockets) socket.destroy();
  };
  return wire;
}
