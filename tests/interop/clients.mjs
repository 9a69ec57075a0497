// Node's WebSocket clients behind one interface, so that all meet the same cases.
//
// A client is opened by `await Client.open(url, …)`. What a client cannot do is said by its class: the cases
// look there.

import assert from 'node:assert/strict';
import diagnostics from 'node:diagnostics_channel';
import { EventEmitter, once } from 'node:events';

import { require } from './support.mjs';

const ws = require('ws');
const undici = require('undici');
const { client: WebSocketClient } = require('websocket');
const WebSocketFrame = require('websocket/lib/WebSocketFrame');

/** What comes, in its order, to be waited for. */
class Queue {
  #come = [];
  #waiting = [];

  put(value) {
    const next = this.#waiting.shift();
    if (next) next(value);
    else this.#come.push(value);
  }

  take() {
    return this.#come.length ? Promise.resolve(this.#come.shift()) : new Promise((next) => this.#waiting.push(next));
  }
}

/** What the cases need. */
class Client {
  /** Whether it speaks permessage-deflate, and whether it compresses itself. */
  static offers = false;
  static compresses = false;
  /** Whether the parameters of what it offers can be chosen. */
  static offersWindows = false;
  /** Whether it can send a message in fragments of the caller's choice. */
  static fragments = true;
  /** Whether its close can go without a code. */
  static closesWithoutCode = true;
  /** What it says of an end without a reason. */
  static noReason = '';

  messages = new Queue();
  pongs = new Queue();
  ended = new Queue();

  receive() {
    return this.messages.take();
  }

  /** Sends a message in these fragments; `between` is done behind the first of them. */
  async sendFragments(pieces, text, between) {
    for (const [at, piece] of pieces.entries()) {
      this.sendFragment(piece, { text, first: at === 0, fin: at === pieces.length - 1 });
      if (at === 0) await between?.();
    }
  }

  /** Sends a ping, and returns the payload of the pong. */
  ping(payload) {
    this.sendPing(payload);
    return this.pongs.take();
  }

  /** Closes, and returns code and reason of the end. */
  close(code, reason) {
    this.sendClose(code, reason);
    return this.closed();
  }

  /** Waits for the end: its code and reason. */
  closed() {
    return this.ended.take();
  }
}

/** `ws`. */
class Ws extends Client {
  static offers = true;
  static compresses = true;
  static offersWindows = true;

  static async open(url, { protocols = [], deflate } = {}) {
    const self = new Ws();
    // Small messages too: the more of the client's frames are compressed, the better.
    const options = { perMessageDeflate: { threshold: 0, ...deflate }, maxPayload: 0 };
    const socket = (self.socket = new ws.WebSocket(url, protocols, options));
    socket.on('message', (data, isBinary) => self.messages.put(isBinary ? data : data.toString()));
    socket.on('pong', (payload) => self.pongs.put(payload));
    socket.on('close', (code, reason) => self.ended.put({ code, reason: reason.toString() }));
    await once(socket, 'open');
    return self;
  }

  get protocol() {
    return this.socket.protocol;
  }

  get extensions() {
    return this.socket.extensions;
  }

  send(message) {
    this.socket.send(message);
  }

  sendFragment(piece, { text, fin }) {
    this.socket.send(piece, { binary: !text, fin });
  }

  sendPing(payload) {
    this.socket.ping(payload);
  }

  sendClose(code, reason) {
    this.socket.close(code, reason);
  }

  leave() {
    this.socket.terminate();
  }
}

const undiciPongs = new EventEmitter().setMaxListeners(0);
diagnostics.subscribe('undici:websocket:pong', ({ websocket, payload }) => {
  undiciPongs.emit('pong', websocket, payload);
});

/** `undici`'s, which is a browser's. */
class Undici extends Client {
  static offers = true;
  static fragments = false;

  static async open(url, { protocols = [] } = {}) {
    const self = new Undici();
    const socket = (self.socket = new undici.WebSocket(url, protocols));
    socket.binaryType = 'arraybuffer';
    socket.onmessage = ({ data }) => self.messages.put(typeof data === 'string' ? data : Buffer.from(data));
    socket.onclose = ({ code, reason, wasClean }) => self.ended.put({ code, reason, wasClean });
    undiciPongs.on('pong', (of, payload) => of === socket && self.pongs.put(payload));
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = ({ error }) => reject(error);
    });
    return self;
  }

  get protocol() {
    return this.socket.protocol;
  }

  get extensions() {
    return this.socket.extensions;
  }

  send(message) {
    this.socket.send(message);
  }

  sendPing(payload) {
    undici.ping(this.socket, payload);
  }

  sendClose(code, reason) {
    this.socket.close(code, reason);
  }

  leave() {
    this.socket.close();
  }
}

/** `websocket`. */
class Websocket extends Client {
  static closesWithoutCode = false;
  static noReason = 'Normal connection closure';

  static async open(url, { protocols = [] } = {}) {
    const self = new Websocket();
    const client = new WebSocketClient();
    client.on('connectFailed', (error) => client.emit('error', error));
    client.connect(url, protocols);
    const [connection] = await once(client, 'connect');
    self.connection = connection;
    connection.on('message', ({ utf8Data, binaryData }) => self.messages.put(utf8Data ?? binaryData));
    connection.on('pong', (payload) => self.pongs.put(payload));
    connection.on('close', (code, reason) => self.ended.put({ code, reason }));
    connection.on('error', () => {});
    return self;
  }

  get protocol() {
    return this.connection.protocol ?? '';
  }

  get extensions() {
    return this.connection.extensions?.join() ?? '';
  }

  /** It sends what is longer than 16 KiB in fragments by itself. */
  send(message) {
    this.connection.send(message);
  }

  sendFragment(piece, { text, first, fin }) {
    const frame = new WebSocketFrame(this.connection.maskBytes, this.connection.frameHeader, this.connection.config);
    Object.assign(frame, { opcode: !first ? 0 : text ? 1 : 2, fin, binaryPayload: piece });
    this.connection.sendFrame(frame);
  }

  sendPing(payload) {
    this.connection.ping(payload);
  }

  sendClose(code, reason) {
    this.connection.close(code, reason);
  }

  leave() {
    this.connection.drop(1000, '', true);
  }
}

export const CLIENTS = [Ws, Undici, Websocket];
