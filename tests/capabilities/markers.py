"""The tests that say which rows of the capability list they show, in Python, JavaScript and Rust."""

import ast
import dataclasses
import os
import pathlib
import re

PLACES = ("engine", "server", "benches", "tests")
SUFFIXES = {".py", ".js", ".mjs", ".rs"}
# What holds no sources of ours.
SKIPPED = {"target", "node_modules", "results", "corpus"}

MARKER = re.compile(r"^\s*(?:#|//) capability: (\d+(?: \d+)*)$")
# What somebody has meant as one.
ALIKE = re.compile(r"^\s*(?:#|//+)\s*capabilit(?:y|ies)\b\W*\d", re.IGNORECASE)
COMMENT = re.compile(r"^\s*(?:#|//)\s")
JAVASCRIPT_TEST = re.compile(r"""^\s*test\((['"`])((?:\\.|(?!\1).)+)\1, """)
JAVASCRIPT_LOOP = re.compile(r"^\s*for \(.*\{$")
RUST_ATTRIBUTE = re.compile(r"^\s*#\[")
RUST_TEST = re.compile(r"^\s*#\[(?:\w+::)*test\b")
RUST_FUNCTION = re.compile(r"^\s*(?:async )?fn (\w+)\(")


@dataclasses.dataclass(frozen=True, order=True)
class Test:
    """A test by its source and by its name there: `Class.method`, the title, or the function."""

    file: str
    name: str


class Mistake(Exception):
    """A marker that shows nothing, and why."""


def find(root):
    """The tests of each row, and what is wrong with markers, in words."""
    shown, mistakes = {}, []
    for path in sources(root):
        file = path.relative_to(root).as_posix()
        lines = path.read_text().splitlines()
        for index in (index for index, line in enumerate(lines) if ALIKE.match(line)):
            try:
                rows, names = rows_of(lines[index]), names_below(path.suffix, lines, index)
            except Mistake as mistake:
                mistakes.append(f"{file}:{index + 1}: {mistake}")
                continue
            for row in rows:
                shown.setdefault(row, set()).update(Test(file, name) for name in names)
    return shown, mistakes


def sources(root):
    """Everything that may have tests, in order."""
    found = []
    for place in PLACES:
        for directory, directories, files in os.walk(root / place):
            directories[:] = [name for name in directories if name not in SKIPPED]
            found += [pathlib.Path(directory, file) for file in files]
    return sorted(path for path in found if path.suffix in SUFFIXES)


def rows_of(line):
    marker = MARKER.match(line)
    if not marker:
        raise Mistake("write it as `capability: 53 54`")
    return [int(row) for row in marker[1].split()]


def names_below(suffix, lines, marker):
    """The test directly below a marker, or all those of the Python class there."""
    below = marker + 1
    while below < len(lines) and COMMENT.match(lines[below]):
        below += 1
    names = READERS[suffix](lines, below)
    if not names:
        raise Mistake("there is no test directly below it")
    return names


def python_tests(lines, below):
    """A class without bases is part of those that derive from it, and none of its own."""
    classes = {node.name: node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.ClassDef)}

    def lineage(node):
        bases = [classes[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
        return [node, *(ancestor for base in bases for ancestor in lineage(base))]

    def is_marked(node):
        return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) == below + 1

    names = set()
    for node in (node for node in classes.values() if node.bases):
        for ancestor in lineage(node):
            tests = [part for part in ancestor.body if is_python_test(part)]
            names |= {f"{node.name}.{test.name}" for test in tests if is_marked(node) or is_marked(test)}
    return sorted(names)


def is_python_test(node):
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test")


def javascript_tests(lines, below):
    """In a loop a test has a title for each turn, and here the template of them."""
    while below < len(lines) and JAVASCRIPT_LOOP.match(lines[below]):
        below += 1
    found = JAVASCRIPT_TEST.match(lines[below]) if below < len(lines) else None
    return [re.sub(r"\\(.)", r"\1", found[2])] if found else []


def rust_tests(lines, below):
    end = below
    while end < len(lines) and RUST_ATTRIBUTE.match(lines[end]):
        end += 1
    is_test = any(RUST_TEST.match(line) for line in lines[below:end])
    found = RUST_FUNCTION.match(lines[end]) if end < len(lines) else None
    return [found[1]] if is_test and found else []


READERS = {".py": python_tests, ".js": javascript_tests, ".mjs": javascript_tests, ".rs": rust_tests}
