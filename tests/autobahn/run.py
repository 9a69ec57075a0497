"""Autobahn|Testsuite against the echo example: `run.py WSTEST OUTPUT_DIRECTORY`.

All cases run, in parts side by side. What the suite finds is summed up in tests/conformance.md; whatever is not
OK, or not graded by the suite at all, is an error, and so is a summary that is not the one of the last time.
"""

import collections
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS / "interop"))

from support import Server  # noqa: E402 (its directory has just been named)

SUMMARY = TESTS / "conformance.md"
# How long one part may take before it counts as hung.
PART_S_MAX = 1500
# What the suite calls right; INFORMATIONAL are cases that have no wrong answer.
RIGHT = ("OK", "INFORMATIONAL")

# The sections of the suite, how many cases each has, and what it is about.
SECTIONS = {
    "1": (16, "Framing"),
    "2": (11, "Pings and pongs"),
    "3": (7, "Reserved bits"),
    "4": (10, "Opcodes"),
    "5": (20, "Fragmentation"),
    "6": (145, "UTF-8"),
    "7": (37, "Close handshake"),
    "9": (54, "Limits and performance: messages of up to 16 MiB, 65,536 fragments"),
    "10": (1, "Automatic fragmentation"),
    "12": (90, "Compression of many kinds of data, each message for itself"),
    "13": (126, "Compression with many parameters, contexts taken over where the client allows it"),
}
# The largest message of the suite has 16 MiB.
ECHO = ["examples/echo", "127.0.0.1:{port}", "--cores", 2, "--message-bytes-max", 16 << 20]
# What runs at one time and against one server, with the flags of the server.
PARTS = [([], [f"{section}.*" for section in (1, 2, 3, 4, 5, 6, 7, 10)]), ([], ["9.*"])]
PARTS += [(["--compress"], [f"12.{part}.*"]) for part in range(1, 6)]
PARTS += [(["--compress=takeover"], [f"13.{part}.*"]) for part in range(1, 8)]
# How many of them run side by side. The two ends of a part wait for each other much of the time.
PARTS_AT_ONCE = max(4, os.cpu_count() or 1)


def run_part(wstest, directory, flags, patterns):
    """Runs some of the cases, given by their patterns; returns what was found for each of them."""
    directory = directory / patterns[0].removesuffix(".*")
    # What an earlier run has left there is no result of this one.
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with Server(*ECHO, *flags) as server, open(directory / "log", "wb") as log:
        spec = {
            "outdir": str(directory),
            "servers": [{"agent": "crore", "url": server.url}],
            "cases": patterns,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        (directory / "spec.json").write_text(json.dumps(spec))
        command = [wstest, "--mode=fuzzingclient", "--spec=spec.json"]
        started = time.monotonic()
        subprocess.run(command, cwd=directory, stdout=log, stderr=subprocess.STDOUT, timeout=PART_S_MAX, check=True)
    print(f"{' '.join(patterns)}: {time.monotonic() - started:.0f} s", flush=True)
    return json.loads((directory / "index.json").read_text())["crore"]


def in_order(case):
    """A key to sort `1.10.2` behind `1.9.1`."""
    return [int(number) for number in case.split(".")]


def judge(results):
    """What is wrong with the results, in words."""
    wrong = []
    for case in sorted(results, key=in_order):
        found = results[case]
        for what in ("behavior", "behaviorClose"):
            if found[what] not in RIGHT:
                wrong.append(f"case {case}: {what} is {found[what]}")
    for section, (expected, _) in SECTIONS.items():
        count = sum(case.split(".")[0] == section for case in results)
        if count != expected:
            wrong.append(f"section {section}: {count} of {expected} cases have run")
    return wrong


def summary(results, versions):
    """The table, in Markdown."""
    lines = [
        "# Conformance",
        "",
        f"All cases of Autobahn|Testsuite ({versions}, Python 2.7) against [the echo example](../engine/examples/echo.rs):",
        "",
        "```sh",
        "tests/run autobahn   # runs them, fails on anything else than OK and INFORMATIONAL, and writes this file",
        "```",
        "",
        "| section | | cases | OK | informational |",
        "|---|---|---:|---:|---:|",
    ]
    total = collections.Counter()
    for section, (_, title) in SECTIONS.items():
        found = [result for case, result in results.items() if case.split(".")[0] == section]
        counts = collections.Counter(result["behavior"] for result in found)
        total += counts
        lines.append(f"| {section} | {title} | {len(found)} | {counts['OK']} | {counts['INFORMATIONAL']} |")
    lines += [
        f"| all | | {total.total()} | {total['OK']} | {total['INFORMATIONAL']} |",
        "",
        "A case is informational where the suite itself grades no behaviour: "
        + ", ".join(sorted((c for c, r in results.items() if r["behavior"] == "INFORMATIONAL"), key=in_order))
        + ".",
        "Both the behaviour and the close handshake of a case count.",
        "",
        "What the suite does not reach (the handshake, all close codes, the byte at which a frame fails, offers of",
        "permessage-deflate) is in [tables of our own](conformance/main.rs): `cargo test -p crore-tests --test conformance`.",
    ]
    return "\n".join(lines) + "\n"


def suite_versions():
    """The suite's own version and that of the library under it."""
    pins = (TESTS / "autobahn/requirements.txt").read_text().split()
    return ", ".join(pin.replace("==", " ") for pin in pins if pin.startswith("autobahn"))


def main():
    wstest, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    results = {}
    with concurrent.futures.ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        for found in pool.map(lambda part: run_part(wstest, directory, *part), PARTS):
            results.update(found)
    wrong = judge(results)
    if wrong:
        print(*wrong, sep="\n")
        sys.exit(f"{len(wrong)} faults; the suite's reports are in {directory}")
    text = summary(results, suite_versions())
    if not SUMMARY.exists() or SUMMARY.read_text() != text:
        SUMMARY.write_text(text)
        sys.exit("every case is right, but tests/conformance.md has changed: look at it, and commit it")
    print(f"{len(results)} cases, and every one of them is right")


if __name__ == "__main__":
    main()
