"""What the table of capabilities makes of markers and of reports."""

import pathlib
import tempfile
import unittest

import markers
import table
from markers import Test
from outcomes import Outcomes

# Put together, or they would be markers of this file.
PYTHON, RUST = "# capability" + ":", "// capability" + ":"


class Tree(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def write(self, path, *lines):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")


class Markers(Tree):
    def test_a_marker_names_the_test_below_it(self):
        self.write(
            "tests/interop/test_a.py",
            "class First(Part, unittest.TestCase):",
            f"    {PYTHON} 1 2",
            "    # Why.",
            "    @decorated",
            "    async def test_one(self): pass",
            "",
            f"{PYTHON} 3",
            "class Second(Part):",
            "    def test_two(self): pass",
            "    def test_three(self): pass",
            "    def helper(self): pass",
            "class Part:",
            f"    {PYTHON} 5",
            "    def test_five(self): pass",
        )
        self.write("tests/a.test.mjs", f"{RUST} 2", 'test("it\'s \\"so\\"", async () => {', "});")
        self.write("tests/b.test.mjs", f"{RUST} 6", "for (const name of NAMES) {", "  test(`${name} is in`, async () => {", "  });")
        self.write("server/src/a/tests.rs", "mod tests {", f"    {RUST} 4", "    #[test]", "    fn four() {", "    }", "}")
        shown, mistakes = markers.find(self.root)
        self.assertEqual(mistakes, [])
        one = Test("tests/interop/test_a.py", "First.test_one")
        self.assertEqual(shown[1], {one})
        self.assertEqual(shown[2], {one, Test("tests/a.test.mjs", "it's \"so\"")})
        self.assertEqual({test.name for test in shown[3]}, {"Second.test_two", "Second.test_three", "Second.test_five"})
        self.assertEqual({test.name for test in shown[5]}, {"First.test_five", "Second.test_five"})
        self.assertEqual(shown[6], {Test("tests/b.test.mjs", "${name} is in")})
        self.assertEqual(shown[4], {Test("server/src/a/tests.rs", "four")})

    def test_a_marker_that_shows_nothing_is_a_mistake(self):
        for name, lines in {
            "a.py": [f"{PYTHON} 1", "", "def test_of_no_class(): pass"],
            "b.py": ["class A(B):", f"    {PYTHON} 1", "    def helper(self): pass"],
            "c.py": ["class A(B):", f"    {PYTHON} 1, 2", "    def test_it(self): pass"],
            "d.py": ["class A(B):", f"    {PYTHON}1", "    def test_it(self): pass"],
            "e.py": ["class A(B):", "    def test_it(self): pass", f"    {PYTHON} 1"],
            "a.mjs": [f"{RUST} 1", "const test = 1;"],
            "a.rs": [f"{RUST} 1", "fn no_test() {}"],
            "b.rs": [f"/{RUST} 1", "#[test]", "fn test() {}"],
            "c.rs": [f"{RUST} 1", "", "#[test]", "fn test() {}"],
        }.items():
            with self.subTest(lines=lines):
                self.write(f"tests/{name}", *lines)
                shown, mistakes = markers.find(self.root)
                self.assertEqual((shown, len(mistakes)), ({}, 1))
                self.assertIn(name, mistakes[0])
                (self.root / "tests" / name).unlink()


class Reports(Tree):
    def test_the_worst_of_several_results_counts(self):
        self.write("a.py.tsv", "tests/a.py\tA.test_a\tpassed", "tests/a.py\tA.test_a\tfailed", "tests/a.py\tA.test_b\tskipped")
        outcomes = Outcomes(self.root)
        found = [outcomes.of(Test("tests/a.py", f"A.test_{name}")) for name in "abc"]
        self.assertEqual(found, ["failed", "skipped", None])

    def test_a_title_with_a_placeholder_is_all_those_that_it_makes(self):
        self.write("b.tsv", "tests/b.mjs\ta (1) is in\tpassed", "tests/b.mjs\tb is in\tfailed", "tests/b.mjs\tc is out\tskipped")
        outcomes = Outcomes(self.root)
        found = [outcomes.of(Test("tests/b.mjs", f"${{name}} is {place}")) for place in ("in", "out", "away")]
        self.assertEqual(found, ["failed", "skipped", None])

    def test_cargo_says_which_program_it_runs(self):
        self.write(
            "rust.log",
            "     Running unittests src/lib.rs (target/debug/deps/crore_server-0123456789abcdef)",
            "test auth::verify::tests::one ... ok",
            "test two ... FAILED",
            "     Running tests/memory.rs (target/debug/deps/memory-0123456789abcdef)",
            "test one ... ignored, it takes long",
            "test two - should panic ... ok",
            "   Doc-tests crore_server",
            "test server/src/lib.rs - three (line 3) ... ok",
        )
        outcomes = Outcomes(self.root)
        for file, name, expected in (
            ("server/src/auth/verify/tests.rs", "one", "passed"),
            ("server/src/lib.rs", "two", "failed"),
            ("server/tests/memory.rs", "one", "skipped"),
            ("tests/memory.rs", "two", "passed"),
            ("engine/src/lib.rs", "one", None),
            ("tests/memory/part.rs", "one", "skipped"),
            ("tests/interop/memory.rs", "one", "skipped"),
        ):
            self.assertEqual(outcomes.of(Test(file, name)), expected, file)


class Table(unittest.TestCase):
    def test_a_table_is_read_as_it_was_written(self):
        tests = {1: {Test("tests/interop/a.mjs", "it does 'so'"), Test("server/tests/b.rs", "b")}, 3: {Test("tests/c.rs", "c")}}
        titles = {1: "One", 2: "Two", 3: "Three"}
        results = {"b": "passed", "c": "failed"}
        text = table.table(tests, {1, 2}, titles, lambda test: results.get(test.name, table.NOT_RUN))
        read = table.parse(text)
        self.assertEqual(read.keys(), tests[1] | tests[3])
        self.assertEqual({test.name: result for test, result in read.items()}, results | {"it does 'so'": "not run"})
        self.assertIn("| 2 | Two | | missing |", text)
        other = text.replace("passed", "failed")
        self.assertEqual(table.without_results(text), table.without_results(other))
        self.assertNotEqual(table.without_results(text), table.without_results(text.replace("Two", "2")))


if __name__ == "__main__":
    unittest.main()
