// The admin page: asks the server API once a second, and shows what it says.

import { Chart, Samples } from './charts.js';
import { bytes, clock, count, duration, percent, rate } from './format.js';

const SAMPLE_MS = 1000;
// Every second sample also asks who is slow and which channels are large.
const LISTS_EVERY = 2;
const ANSWER_MS = 5000;
const ROWS = 10;
const KEY = 'crore-api-key';

const $ = (id) => document.getElementById(id);
const text = (id, value) => { if ($(id).textContent !== value) $(id).textContent = value; };

/** The classes of memory, by the names of the server API. */
const CLASSES = [
  ['kernel', 'kernel (estimate)', 'class-1'],
  ['slab', 'slots', 'class-2'],
  ['session', 'sessions', 'class-3'],
  ['receive_pool', 'receive buffers', 'class-4'],
  ['outbox', 'output', 'class-5'],
  ['partial', 'input', 'class-6'],
  ['topics', 'channels', 'class-7'],
  ['deflate', 'compression', 'class-8'],
];

const samples = new Samples();
let charts = [];
let timer = null;
let asking = false;
let asked = 0;
let before = null;
let awaySince = null;
// Bytes that wait for slow consumers, when they were last looked for.
let waiting = null;

// ---- asking

/** The server does not open the API to this key: why, for people. */
class Refused extends Error {}

async function ask(path) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem(KEY)}` };
  // Relative, so that it works below another path of a proxy as well.
  const response = await fetch(`../api/${path}`, { headers, cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MS) });
  if (response.status === 401) throw new Refused('This key does not open the server API. It is the one of api.key.');
  if (response.status === 403) {
    throw new Refused('The server has no API key. Set api.key in its configuration, or the variable CRORE_API_KEY, and start it again.');
  }
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  return response.json();
}

async function sample() {
  if (asking) return;
  asking = true;
  const key = sessionStorage.getItem(KEY);
  try {
    const lists = asked++ % LISTS_EVERY === 0 ? [ask(`slow-consumers?limit=${ROWS}`), ask(`top-channels?limit=${ROWS}`)] : [];
    const [stats, slow, top] = await Promise.all([ask('stats'), ...lists]);
    if (key === sessionStorage.getItem(KEY)) show(stats, slow, top);
  } catch (error) {
    if (key === sessionStorage.getItem(KEY)) error instanceof Refused ? leave(error.message) : away();
  } finally {
    asking = false;
  }
}

// ---- what is seen

function state(name, label) {
  $('state').dataset.state = name;
  text('state', label);
}

function notice(message) {
  $('notice').hidden = !message;
  text('notice', message ?? '');
}

function away() {
  if (awaySince === null) {
    awaySince = Date.now();
    gap();
  }
  state('away', 'No answer');
  const waiting = `The server has not answered since ${clock(awaySince / 1000)}. It is asked again every second.`;
  notice(waiting);
}

/** The lines of the charts are not drawn across a time of which nothing is known. */
function gap() {
  before = null;
  if (samples.times.length) samples.add(Date.now() / 1000, {});
}

function show(stats, slow, top) {
  if ($('board').hidden) open();
  // Its counters have begun anew.
  if (before && stats.uptime_ms < before.uptime_ms) gap();
  const time = Date.now() / 1000;
  const seconds = before && (stats.uptime_ms - before.uptime_ms) / 1000;
  const speed = (now, then) => (seconds > 0 ? Math.max(0, now - then) / seconds : null);
  const { counters, memory_bytes: memory } = stats.total;
  const speeds = (name) => speed(counters[name], before?.total.counters[name]);
  const now = {
    connections: counters.connections_open,
    in: speeds('messages_received'),
    out: speeds('messages_sent'),
    'bytes-in': speeds('bytes_received'),
    'bytes-out': speeds('bytes_sent'),
  };
  if (slow) waiting = slow.queued_bytes;
  now.waiting = waiting;
  Object.assign(now, balance(stats, speed));
  for (const [name] of CLASSES) now[`memory-${name}`] = memory[name] ?? 0;
  samples.add(time, now);
  awaySince = null;
  notice(null);
  stats.draining ? state('draining', 'Draining') : state('live', 'Live');
  const process = stats.resident_bytes === undefined ? '' : ` · process ${bytes(stats.resident_bytes)}`;
  text('build', `version ${stats.version} · up ${duration(stats.uptime_ms)}${process}`);
  tiles(stats, now, speed);
  cores(stats, speed);
  if (slow) slowConsumers(slow);
  if (top) topChannels(top, counters.connections_open);
  for (const chart of charts) chart.draw();
  before = stats;
}

/** Messages of a second, both ways, on the core that has the most of them, on an average one, and on the one with the fewest. */
function balance(stats, speed) {
  if (!before || before.cores.length !== stats.cores.length) return {};
  const messages = ({ counters }) => counters.messages_received + counters.messages_sent;
  const speeds = stats.cores.map((core, at) => speed(messages(core), messages(before.cores[at])));
  if (speeds.includes(null)) return {};
  const mean = speeds.reduce((sum, one) => sum + one, 0) / speeds.length;
  return { 'core-most': Math.max(...speeds), 'core-mean': mean, 'core-least': Math.min(...speeds) };
}

function tiles(stats, now, speed) {
  text('connections', count(now.connections));
  text('connections-more', `of ${count(stats.connections_max)} · peak ${count(stats.connections_open_peak)}`);
  text('in', rate(now.in));
  text('out', rate(now.out));
  const held = CLASSES.reduce((sum, [name]) => sum + now[`memory-${name}`], 0);
  text('memory', bytes(held));
  text('memory-more', `of ${bytes(stats.memory_budget_bytes)}`);
  const cpu = speed(stats.cpu_ms, before?.cpu_ms);
  text('cpu', cpu === null || stats.cpu_ms === undefined ? '–' : percent(cpu / 1000, 1));
  text('cpu-more', `of one CPU · ${stats.cores.length} ${stats.cores.length === 1 ? 'core' : 'cores'}`);
  text('errors', rate(speed(stats.errors, before?.errors)));
}

/** Makes a table's rows what they should be, in place: a reader's cursor and a selection stay where they are. */
function rows(id, lines, none) {
  const body = $(id);
  const heads = body.parentElement.tHead.rows[0].cells;
  if (!lines.length) {
    const cell = document.createElement('td');
    cell.colSpan = heads.length;
    cell.className = 'none';
    cell.textContent = none;
    const row = document.createElement('tr');
    row.append(cell);
    if (body.textContent !== none) body.replaceChildren(row);
    return;
  }
  if (body.querySelector('.none')) body.replaceChildren();
  while (body.rows.length > lines.length) body.lastElementChild.remove();
  lines.forEach((cells, at) => {
    const row = body.rows[at] ?? body.insertRow();
    cells.forEach((cell, column) => fill(row.cells[column] ?? row.insertCell(), cell, heads[column].className === 'number'));
  });
}

/** A cell: a text, or the share that a bar shows. */
function fill(cell, content, number) {
  cell.classList.toggle('number', number);
  if (typeof content === 'object') {
    if (!cell.firstElementChild) cell.append(document.createElement('span'));
    const bar = cell.firstElementChild;
    const filled = Math.min(100, 100 * content.share);
    bar.className = 'bar';
    bar.style.setProperty('--filled', `${filled}%`);
    const facts = { role: 'meter', 'aria-valuemin': 0, 'aria-valuemax': 100, 'aria-valuenow': Math.round(filled), 'aria-label': content.label, title: content.label };
    for (const [name, value] of Object.entries(facts)) bar.setAttribute(name, value);
    return;
  }
  if (cell.textContent !== content) cell.textContent = content;
  cell.title = content;
}

function cores(stats, speed) {
  const all = stats.total.counters.connections_open;
  rows('cores', stats.cores.map(({ counters, memory_bytes: memory }, core) => {
    const speeds = (name) => rate(speed(counters[name], before?.cores[core]?.counters[name]));
    const open = counters.connections_open;
    const held = Object.values(memory).reduce((sum, part) => sum + part, 0);
    const share = { share: all > 0 ? open / all : 0, label: `${percent(open, all)} of all connections` };
    return [`${core}`, count(open), share, speeds('messages_received'), speeds('messages_sent'), bytes(held)];
  }), 'No core has answered.');
}

function slowConsumers({ connections, count: number, queued_bytes: queued, queued_bytes_max: most }) {
  const who = number === 1 ? 'For one connection' : `For ${count(number)} connections`;
  text('slow-more', number ? `${who} ${bytes(queued)} of output wait to be read.` : 'All connections have read what they were sent.');
  rows('slow', connections.map(({ id, user, address, age_ms: age, channel_count: channels, queued_bytes: behind }) => {
    const share = { share: behind / most, label: `${percent(behind, most)} of ${bytes(most)}` };
    return [id, user ?? '–', address ?? '–', duration(age), count(channels), bytes(behind), share];
  }), 'No slow consumers.');
}

function topChannels({ channels }, connections) {
  rows('top', channels.map(({ channel, subscribers }) => {
    // They were counted a moment before the connections.
    const part = Math.min(subscribers, connections);
    const share = { share: connections > 0 ? part / connections : 0, label: `${percent(part, connections)} of all connections` };
    return [channel, count(subscribers), share];
  }), 'Nobody subscribes to anything.');
}

// ---- coming and going

function open() {
  $('login').hidden = true;
  $('board').hidden = $('leave').hidden = false;
  if (charts.length) return;
  const chart = (id, options) => new Chart($(`chart-${id}`), samples, options);
  const twoWays = (prefix) => [
    { name: `${prefix}in`, label: 'in', colour: 'line-1' },
    { name: `${prefix}out`, label: 'out', colour: 'line-2' },
  ];
  charts = [
    chart('connections', { label: 'Connections', format: count, series: [{ name: 'connections', label: 'open', colour: 'line-1' }] }),
    chart('messages', { label: 'Messages a second', format: rate, series: twoWays('') }),
    chart('traffic', { label: 'Traffic a second', format: bytes, binary: true, series: twoWays('bytes-') }),
    chart('memory', {
      label: 'Memory of connections by class',
      format: bytes,
      binary: true,
      stacked: true,
      series: CLASSES.map(([name, label, colour]) => ({ name: `memory-${name}`, label, colour })),
    }),
    chart('balance', {
      label: 'Messages a second by core',
      format: rate,
      series: [
        { name: 'core-most', label: 'most', colour: 'line-2' },
        { name: 'core-mean', label: 'mean', colour: 'line-3' },
        { name: 'core-least', label: 'least', colour: 'line-1' },
      ],
    }),
    chart('waiting', {
      label: 'Output that waits to be read',
      format: bytes,
      binary: true,
      series: [{ name: 'waiting', label: 'bytes', colour: 'line-2' }],
    }),
  ];
}

/** Asks at once, and from now on while somebody looks. */
function start() {
  stop();
  if (document.hidden || sessionStorage.getItem(KEY) === null) return;
  timer = setInterval(sample, SAMPLE_MS);
  sample();
}

function stop() {
  clearInterval(timer);
  timer = null;
}

/** Forgets the key and all that was seen with it. */
function leave(message) {
  stop();
  sessionStorage.removeItem(KEY);
  samples.clear();
  [before, awaySince, waiting, asked] = [null, null, null, 0];
  $('board').hidden = $('leave').hidden = true;
  $('login').hidden = false;
  state('out', 'Signed out');
  text('build', '');
  notice(message);
  $('key').focus();
}

$('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  const key = $('key').value.trim();
  $('key').value = '';
  // It could not be sent in a header.
  if (!/^[\x21-\x7e]+$/.test(key)) return leave('A key has visible ASCII characters and no spaces.');
  sessionStorage.setItem(KEY, key);
  notice(null);
  state('away', 'Signing in…');
  start();
});

$('leave').addEventListener('click', () => leave(null));

document.addEventListener('visibilitychange', () => {
  if (document.hidden) {
    stop();
  } else if (sessionStorage.getItem(KEY) !== null) {
    gap();
    start();
  }
});

if (sessionStorage.getItem(KEY) === null) leave(null);
else start();
