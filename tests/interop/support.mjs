// What the Node tests share: the modules, which live outside the source tree, and the programs under test.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const TARGET = process.env.CARGO_TARGET_DIR ?? path.join(ROOT, 'target');
// Where cargo has put the programs; tests/run says so.
export const PROGRAMS = process.env.TEST_PROGRAMS ?? path.join(TARGET, 'debug');

/** Loads a module that tests/run has installed. */
export const require = createRequire(path.join(TARGET, 'node/'));

/** A port of 127.0.0.1 that nobody listens on. */
export async function freePort() {
  const listener = net.createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

/**
 * Starts a server program, with some variables set, and returns when it listens on `port`. `stop()` ends it and returns
 * how it ended.
 */
export async function start(program, args, port, variables = {}) {
  const env = { ...process.env, ...variables };
  const child = spawn(path.join(PROGRAMS, program), args, { env, stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = once(child, 'exit');
  while (!(await listens(child.pid, port))) {
    if (child.exitCode !== null) throw new Error(`${program} has ended with ${child.exitCode}`);
    await sleep(20);
  }
  return {
    async stop(signal = 'SIGTERM') {
      const died = child.exitCode ?? child.signalCode;
      child.kill(signal);
      const [code] = await ended;
      if (died !== null) throw new Error(`${program} has ended in the middle of a test with ${died}`);
      return code;
    },
  };
}

/** Starts a server program whose first argument is its address, on a port of its own. */
export async function serve(program, args = []) {
  const port = await freePort();
  const { stop } = await start(program, [`127.0.0.1:${port}`, ...args], port);
  return { port, url: `ws://127.0.0.1:${port}/`, stop };
}

/**
 * Starts `crore` on two cores with a configuration, given its port. `token(user, ...args)` makes a token as it accepts
 * them, with more arguments for `crore gen-token`.
 */
export async function serveConfigured(configuration) {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'crore-'));
  const config = path.join(directory, 'crore.toml');
  const port = await freePort();
  await writeFile(config, configuration(port));
  const { stop } = await start('crore', ['--listen', `127.0.0.1:${port}`, '--cores', '2', '--config', config], port);
  return {
    page: `http://127.0.0.1:${port}/`,
    url: `ws://127.0.0.1:${port}/ws`,
    async token(user, ...args) {
      const command = ['gen-token', '--user', user, '--config', config, ...args];
      return (await promisify(execFile)(path.join(PROGRAMS, 'crore'), command)).stdout.trim();
    },
    async stop() {
      await stop();
      await rm(directory, { recursive: true });
    },
  };
}

/** Waits for the next JSON message of a WebSocket, each time that it is called. */
export function inbox(socket) {
  const messages = [];
  let wake = () => {};
  socket.addEventListener('message', ({ data }) => wake(messages.push(JSON.parse(data))));
  return async () => {
    while (messages.length === 0) await new Promise((resolve) => (wake = resolve));
    return messages.shift();
  };
}

/** Headless Chromium. */
export function launch() {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  // Chromium's sandbox does not run as root, nor in most containers; the pages are our own.
  const args = ['--no-sandbox', '--disable-dev-shm-usage'];
  return require('playwright-core').chromium.launch({ executablePath, args });
}

/** Whether this very process listens: its predecessor's listeners may outlive it for a moment. */
async function listens(pid, port) {
  const descriptors = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const own = await Promise.all(descriptors.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => '')));
  // Fields of proc(5): local address, state (0A is LISTEN), inode.
  const sockets = (await readFile('/proc/net/tcp', 'utf8')).trim().split('\n').map((line) => line.trim().split(/\s+/));
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return sockets.some((s) => s[1].endsWith(suffix) && s[3] === '0A' && own.includes(`socket:[${s[9]}]`));
}
