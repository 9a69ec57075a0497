// Moving charts of the last minutes, drawn by uPlot.

import { clock } from './format.js';

/** Seconds that a chart shows, once there are so many; one sample a second. */
const SPAN_S = 300;
const SPAN_S_MIN = 60;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The samples of all charts: times in seconds, and by series a number for each, or null where nothing was known. */
export class Samples {
  times = [];
  #series = new Map();

  /** The numbers of a series. One that is new has none for the times before. */
  of(name) {
    if (!this.#series.has(name)) this.#series.set(name, this.times.map(() => null));
    return this.#series.get(name);
  }

  /** Adds a sample; series that it does not name have a gap there. */
  add(time, values) {
    for (const name of Object.keys(values)) this.of(name);
    this.times.push(time);
    for (const [name, numbers] of this.#series) numbers.push(values[name] ?? null);
    const old = this.times.findIndex((other) => other >= time - SPAN_S - 5);
    if (old > 0) [this.times, ...this.#series.values()].forEach((list) => list.splice(0, old));
  }

  /** From when to when they are shown. */
  span() {
    const end = this.times.at(-1) ?? Date.now() / 1000;
    return [Math.max(end - SPAN_S, Math.min(this.times[0] ?? end, end - SPAN_S_MIN)), end];
  }

  clear() {
    this.times.length = 0;
    this.#series.clear();
  }
}

/** Ticks on round multiples of 1024, so that an axis of bytes has round labels. */
function binarySteps() {
  const steps = [];
  for (let unit = 1; unit < 2 ** 50; unit *= 1024) for (let step = 1; step < 1024; step *= 2) steps.push(unit * step);
  return steps;
}

const BINARY_STEPS = binarySteps();
const WHOLE_STEPS = [1, 2, 5].flatMap((digit) => Array.from({ length: 13 }, (_, power) => digit * 10 ** power)).sort((a, b) => a - b);

/**
 * A chart in a `figure` with a place for its legend and one to draw on. `series` are `{name, label, colour}`, where
 * `name` is that of the samples and `colour` one of the style sheet's; `stacked` ones add up.
 */
export class Chart {
  #figure;
  #options;
  #samples;
  #plot = null;
  #values = [];
  #marked = null;

  constructor(figure, samples, options) {
    this.#figure = figure;
    this.#samples = samples;
    this.#options = options;
    const place = figure.querySelector('.plot');
    new ResizeObserver(() => this.#plot?.setSize({ width: place.clientWidth, height: place.clientHeight })).observe(place);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#build());
    this.#build();
  }

  /** Draws the samples as they are. */
  draw() {
    this.#plot.setData(this.#data());
    this.#legend();
  }

  #data() {
    const columns = this.#options.series.map(({ name }) => this.#samples.of(name));
    if (!this.#options.stacked) return [this.#samples.times, ...columns];
    // Each on top of those before it. The highest is drawn first, so that the others cover all but its own part.
    const sums = [];
    columns.forEach((numbers, index) => {
      const below = sums[index - 1];
      sums.push(numbers.map((number, at) => (number == null ? null : number + (below?.[at] ?? 0))));
    });
    return [this.#samples.times, ...sums.reverse()];
  }

  #build() {
    this.#plot?.destroy();
    this.#buildLegend();
    const { series, stacked, format, binary } = this.#options;
    const place = this.#figure.querySelector('.plot');
    place.setAttribute('role', 'img');
    const drawn = series.map((one) => ({
      label: one.label,
      stroke: stacked ? colour('surface') : colour(one.colour),
      fill: stacked ? colour(one.colour) : series.length === 1 ? colour(`${one.colour}-faint`) : undefined,
      width: stacked ? 1 : 2,
      points: { show: false },
    }));
    const axis = {
      stroke: colour('muted'),
      grid: { stroke: colour('grid'), width: 1 },
      ticks: { show: false },
      font: '12px system-ui, "DejaVu Sans", sans-serif',
    };
    this.#plot = new uPlot({
      width: place.clientWidth,
      height: place.clientHeight,
      padding: [8, 28, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: !stacked, size: 8 }, sync: { key: 'crore' } },
      scales: {
        x: { range: () => this.#samples.span() },
        y: { range: (_, __, most) => [0, most > 0 ? most * 1.12 : binary ? 1024 : 1] },
      },
      axes: [
        { ...axis, grid: { show: false }, space: 64, size: 30, gap: 8, incrs: [15, 30, 60, 120], values: (_, times, __, ___, step) => times.map((time) => clock(time).slice(0, step < 60 ? 8 : 5)) },
        { ...axis, size: 62, gap: 6, space: 34, incrs: binary ? BINARY_STEPS : WHOLE_STEPS, values: (_, numbers) => numbers.map(format) },
      ],
      series: [{}, ...(stacked ? drawn.reverse() : drawn)],
      hooks: { setCursor: [({ cursor }) => { this.#marked = cursor.idx; this.#legend(); }] },
    }, this.#data(), place);
    this.#legend();
  }

  #buildLegend() {
    const legend = this.#figure.querySelector('.legend');
    this.#values = this.#options.series.map(() => document.createElement('b'));
    legend.replaceChildren(...this.#options.series.map((one, index) => {
      const [item, swatch] = [document.createElement('li'), document.createElement('i')];
      swatch.style.background = colour(one.colour);
      item.append(swatch, `${one.label} `, this.#values[index]);
      return item;
    }));
  }

  /** The numbers under the pointer, or the last ones. */
  #legend() {
    const at = this.#marked ?? this.#samples.times.length - 1;
    const { series, stacked, format, label } = this.#options;
    const texts = series.map(({ name }) => format(this.#samples.of(name)[at]));
    texts.forEach((text, index) => {
      const value = this.#values[index];
      value.textContent = text;
      // Of many that add up, those are named that there is anything of.
      value.parentElement.hidden = stacked && !this.#samples.of(series[index].name).some((number) => number > 0);
    });
    this.#figure.querySelector('.time').textContent = this.#marked == null ? '' : clock(this.#samples.times[at]);
    const last = series.map((one) => `${one.label} ${format(this.#samples.of(one.name).at(-1))}`).join(', ');
    this.#figure.querySelector('.plot').setAttribute('aria-label', `${label}, the last five minutes. Now: ${last}.`);
  }
}
