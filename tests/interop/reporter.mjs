// A reporter for Node's test runner: says what has become of each test, in the directory that TEST_RESULTS names. For
// each file of tests there is one `FILE.tsv` then, with a line for each test: its source, its title, and `passed`,
// `skipped` or `failed`.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

export default async function* report(events) {
  const directory = process.env.TEST_RESULTS;
  const reports = new Map();
  for await (const { type, data } of events) {
    if ((type !== 'test:pass' && type !== 'test:fail') || !data.file || data.details?.type === 'suite') continue;
    const outcome = type === 'test:fail' ? 'failed' : data.skip === undefined ? 'passed' : 'skipped';
    const lines = reports.get(data.file) ?? [];
    lines.push(`${path.relative(ROOT, data.file)}\t${data.name}\t${outcome}\n`);
    reports.set(data.file, lines);
  }
  mkdirSync(directory, { recursive: true });
  for (const [file, lines] of reports) writeFileSync(path.join(directory, `${path.basename(file)}.tsv`), lines.join(''));
}
