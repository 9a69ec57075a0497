// Numbers as people read them.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

/** A count: all digits up to a million, then 1.23M. */
export const count = (value) => (value == null ? '–' : Math.abs(value) < 1e6 ? whole.format(value) : short.format(value));

/** A rate by the second: small ones with a digit behind the point. */
export const rate = (value) => (value == null ? '–' : value > 0 && value < 10 ? tenths.format(value) : count(value));

/** Bytes in the largest unit of which there is at least one. */
export function bytes(value) {
  if (value == null) return '–';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit > 0 && Math.abs(value) < 100 ? tenths.format(value) : whole.format(value)} ${units[unit]}`;
}

/** The two largest units of a time. */
export function duration(ms) {
  if (ms == null) return '–';
  const seconds = Math.floor(ms / 1000);
  const parts = [[Math.floor(seconds / 86400), 'd'], [Math.floor(seconds / 3600) % 24, 'h'], [Math.floor(seconds / 60) % 60, 'min'], [seconds % 60, 's']];
  const first = parts.findIndex(([number]) => number > 0);
  if (first < 0) return '0 s';
  return parts.slice(first, first + 2).filter(([number], index) => index === 0 || number > 0)
    .map(([number, unit]) => `${number} ${unit}`).join(' ');
}

/** The time of day, with seconds. */
export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString('en-GB');

/** A share in per cent. */
export const percent = (part, all) => (all > 0 ? `${tenths.format((100 * part) / all)} %` : '–');
