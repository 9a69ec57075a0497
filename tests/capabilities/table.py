"""Makes tests/capabilities.md: table.py RESULTS [--complete].

What the tests' markers say is compared with the committed table, which is written anew. It is an error if a marker
names no test or no row, if the table has had other rows or tests, and with --complete if a row has no test. What has
become of a test is read from RESULTS, the reports that the sections of tests/run leave; of one that has none there,
the committed table's word is kept.
"""

import argparse
import pathlib
import re
import sys
import tomllib

import markers
from outcomes import Outcomes

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests/capabilities.md"
NOT_RUN, MISSING = "not run", "missing"

HEAD = """\
# Capabilities

What the server is to be able to do, and the tests that show it, most of them with clients of others: Python's
`websockets`, Node's `ws`, Chromium. A test says in a comment above it which rows it shows.

```sh
tests/run capabilities   # compares this table with the tests, and writes it with what has become of them
```

| row | capability | test | result |
|--:|---|---|---|
"""
LINE = re.compile(r"^\| \d* \| .* \| \[[^]]+\]\(([^)]+)\) `(.+)` \| ([\w ]+) \|$")


def row_titles():
    """The rows that are taken, and the titles of all."""
    rows = tomllib.loads((pathlib.Path(__file__).parent / "rows.toml").read_text())
    return set(rows["taken"]), {int(row): title for row, title in rows["rows"].items()}


def parse(table):
    """The results in a table, by test."""
    found = (LINE.match(line) for line in table.splitlines())
    return {markers.Test(resolve(line[1]), line[2]): line[3] for line in found if line}


def without_results(table):
    """What must not change unnoticed."""
    return [line.rpartition(" | ")[0] for line in table.splitlines()]


def link(file):
    """A file of the repository, as seen from the table."""
    return file.removeprefix("tests/") if file.startswith("tests/") else f"../{file}"


def resolve(link):
    return link.removeprefix("../") if link.startswith("../") else f"tests/{link}"


def table(shown, taken, titles, result):
    """The table in Markdown."""
    lines = []
    for row in sorted(taken | shown.keys()):
        tests = sorted(shown.get(row, ()))
        cells = [f"[{pathlib.PurePosixPath(test.file).name}]({link(test.file)}) `{test.name}` | {result(test)}" for test in tests]
        for index, cell in enumerate(cells or [f"| {MISSING}"]):
            number, title = (row, titles[row]) if index == 0 else ("", "")
            lines.append(f"| {number} | {title} | {cell} |")
    return HEAD + "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--complete", action="store_true", help="a row without a test is an error")
    arguments = parser.parse_args()

    taken, titles = row_titles()
    shown, mistakes = markers.find(ROOT)
    unknown = sorted(shown.keys() - titles.keys())
    mistakes += [f"{test.file}: {test.name}: there is no row {row}" for row in unknown for test in sorted(shown[row])]
    if mistakes:
        sys.exit("\n".join(mistakes))

    committed = TABLE.read_text() if TABLE.exists() else ""
    outcomes, before = Outcomes(arguments.results), parse(committed)
    text = table(shown, taken, titles, lambda test: outcomes.of(test) or before.get(test, NOT_RUN))
    TABLE.write_text(text)

    missing = sorted(taken - shown.keys())
    results = list(parse(text).values())
    counts = ", ".join(f"{results.count(kind)} {kind}" for kind in sorted(set(results)))
    print(f"{len(taken | shown.keys()) - len(missing)} rows have tests: {counts}")
    if missing:
        print(f"{len(missing)} rows have none: {', '.join(map(str, missing))}")
    if without_results(text) != without_results(committed):
        sys.exit("tests/capabilities.md has had other rows or tests: look at it, and commit it")
    if missing and arguments.complete:
        sys.exit("every row is to have a test")


if __name__ == "__main__":
    main()
