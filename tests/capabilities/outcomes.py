"""What has become of tests, from the reports that the runs have left."""

import pathlib
import re

# From the best to the worst: of a test that has run several times the worst counts.
OUTCOMES = ("passed", "skipped", "failed")

# What stands for a value in a JavaScript template.
PLACEHOLDER = re.compile(r"\$\{[^}]*\}")
RUNNING = re.compile(r"^\s+Running .*\(.*/deps/(\w+)-[0-9a-f]+\)$")
DOC_TESTS = re.compile(r"^\s+Doc-tests ")
RUST_RESULT = re.compile(r"^test (?:\w+::)*(\w+)(?: - should panic)? \.\.\. (ok|FAILED|ignored)")
RUST_OUTCOMES = {"ok": "passed", "FAILED": "failed", "ignored": "skipped"}


class Outcomes:
    """Those in a directory: `FILE.tsv` of the Python and Node tests, `rust.log` of cargo."""

    def __init__(self, directory):
        self.known = {}
        for report in sorted(directory.glob("*.tsv")):
            for line in report.read_text().splitlines():
                file, name, outcome = line.split("\t")
                self.add((file, name), outcome)
        log = directory / "rust.log"
        if log.exists():
            self.read_cargo(log.read_text(errors="replace"))

    def add(self, test, outcome):
        self.known[test] = max(outcome, self.known.get(test, OUTCOMES[0]), key=OUTCOMES.index)

    def read_cargo(self, log):
        program = None
        for line in log.splitlines():
            if running := RUNNING.match(line):
                program = running[1]
            elif DOC_TESTS.match(line):
                program = None
            elif program and (result := RUST_RESULT.match(line)):
                self.add((program, result[1]), RUST_OUTCOMES[result[2]])

    def of(self, test):
        """What has become of a test, or None if it has not run."""
        place = program_of(test.file) if test.file.endswith(".rs") else test.file
        if not PLACEHOLDER.search(test.name):
            return self.known.get((place, test.name))
        # A title for each turn of a loop: the worst of them.
        title = re.compile(".+".join(map(re.escape, PLACEHOLDER.split(test.name))))
        found = [outcome for (file, name), outcome in self.known.items() if file == place and title.fullmatch(name)]
        return max(found, key=OUTCOMES.index, default=None)


def program_of(file):
    """The name of the test program that a Rust source is part of."""
    path = pathlib.PurePosixPath(file)
    if "src" in path.parts:
        # The packages of the workspace are named after their directories.
        return f"crore_{path.parts[0].removesuffix('es')}"
    below = path.relative_to("tests" if path.parts[0] == "tests" else f"{path.parts[0]}/tests")
    # `tests/interop/clients.rs` is a program like those beside its directory; other directories are programs.
    return path.stem if len(below.parts) == 1 or below.parts[0] == "interop" else below.parts[0]
