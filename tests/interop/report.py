"""Runs tests as `python -m unittest` does, and says what has become of each: report.py DIRECTORY NAME…

A name is that of a module, or MODULE.CLASS. For each module there is a file `MODULE.py.tsv` in the directory then, with a
line for each test: its source, its name, and `passed`, `skipped` or `failed`.
"""

import pathlib
import sys
import unittest

from support import ROOT

HERE = pathlib.Path(__file__).resolve().parent


class Outcomes(unittest.TextTestResult):
    """What has become of each test, by its identifier."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.outcomes = {}

    def startTest(self, test):
        super().startTest(test)
        self.outcomes[test.id()] = "passed"

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.outcomes[test.id()] = "failed"

    def addError(self, test, error):
        super().addError(test, error)
        self.outcomes[test.id()] = "failed"

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.outcomes[test.id()] = "failed"

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.outcomes[test.id()] = "skipped"


def main():
    directory, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
    directory.mkdir(parents=True, exist_ok=True)
    modules = {name.partition(".")[0] for name in names}
    reports = {module: directory / f"{module}.py.tsv" for module in modules}
    # What a run that is cut short has not come to has not run.
    for report in reports.values():
        report.unlink(missing_ok=True)
    runner = unittest.TextTestRunner(resultclass=Outcomes)
    result = unittest.main(module=None, argv=["report.py", *names], testRunner=runner, exit=False).result
    for module, report in reports.items():
        source = (HERE / f"{module}.py").relative_to(ROOT).as_posix()
        lines = [
            f"{source}\t{test.removeprefix(f'{module}.')}\t{outcome}\n"
            for test, outcome in result.outcomes.items()
            if test.startswith(f"{module}.")
        ]
        report.write_text("".join(lines))
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
