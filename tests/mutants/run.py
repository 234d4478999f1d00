"""Break the code on purpose and see whether the tests notice.

    make mutants                        # all of them
    python tests/mutants/run.py NAME    # some

Each patch here is one fault, such as a check that is left out. Its header says what it plants, and
names the tests of which every one has to fail for it, by an assertion. The run fails when a fault
survives, when a patch no longer applies cleanly, or when a named test fails without any fault.

To refresh a patch, in a clean checkout: `patch -p1 < tests/mutants/NAME.patch` (or make the change
by hand), then `(grep '^#' tests/mutants/NAME.patch; git diff balancer worker) > /tmp/new`,
`git checkout balancer worker` and `mv /tmp/new tests/mutants/NAME.patch`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
#: The machine's histories as in `make test`, but it need not look for the shortest one.
PROFILE = "machine-unshrunk"
#: Mutants at a time, and seconds that one may take.
JOBS, TIMEOUT_S = max(1, min(4, os.cpu_count() or 1)), 600
#: How pytest words a failed assertion. An import error or a crash is no catch.
ASSERTED = re.compile(r"failure: (AssertionError|assert |Failed: DID NOT RAISE)")


class Mutant(NamedTuple):
    """One patch and its header."""

    name: str
    path: Path
    plants: str
    tests: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Mutant:
        """The header: `# plants: ...` once, `# caught by: <pytest node id>` once or more."""
        lines = [line for line in path.read_text().splitlines() if line.startswith("# ")]
        plants = [
            line.removeprefix("# plants: ") for line in lines if line.startswith("# plants: ")
        ]
        tests = [line.split(": ", 1)[1] for line in lines if line.startswith("# caught by: ")]
        if len(plants) != 1 or not tests:
            raise SystemExit(f"{path}: its header has to say what it plants and what catches it")
        return cls(path.stem, path, plants[0], tuple(tests))


class Outcome(NamedTuple):
    """How the named tests ended: test -> `` when it passed, else how it failed."""

    seconds: float
    tests: dict[str, str]
    output: str


def main(names: list[str]) -> int:
    """Run all mutants, or those of these names; the number of the exit status."""
    mutants = [Mutant.read(path) for path in sorted(ROOT.glob("tests/mutants/*.patch"))]
    if unknown := set(names) - {mutant.name for mutant in mutants}:
        raise SystemExit(f"no such mutant: {', '.join(sorted(unknown))}")
    mutants = [mutant for mutant in mutants if not names or mutant.name in names]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        clean = Path(folder) / "clean"
        copy_tree(clean)
        check_imports(clean)
        check_green(clean, mutants)
        with ThreadPoolExecutor(JOBS) as threads:
            survived = [*threads.map(lambda mutant: judge(mutant, clean), mutants)].count(False)
    print(f"{len(mutants) - survived} of {len(mutants)} mutants caught")
    return 1 if survived else 0


def copy_tree(to: Path) -> None:
    """What git tracks, and what is new and not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def check_imports(tree: Path) -> None:
    """The code under test has to be the copy's, not the one that is installed."""
    found = subprocess.run(
        [sys.executable, "-c", "import balancer, tests.machine.model as m; print(balancer.__file__, m.__file__)"],
        cwd=tree, env=environment(tree), check=True, capture_output=True, text=True,
    )  # fmt: skip
    for path in found.stdout.split():
        if not Path(path).resolve().is_relative_to(tree.resolve()):
            raise SystemExit(f"tests would import {path}, not the code in {tree}")


def check_green(tree: Path, mutants: list[Mutant]) -> None:
    """Without a fault, every named test passes."""
    outcome = run_tests(tree, sorted({test for mutant in mutants for test in mutant.tests}))
    if any(outcome.tests.values()):
        print(outcome.output)
        raise SystemExit("some of the tests fail without any mutant")
    print(
        f"{len(outcome.tests)} tests pass without a mutant, {outcome.seconds:.0f} s\n", flush=True
    )


def judge(mutant: Mutant, clean: Path) -> bool:
    """Plant one fault in a copy; whether every named test fails for it."""
    tree = clean.with_name(mutant.name)
    shutil.copytree(clean, tree)
    patch = subprocess.run(
        ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "-i", mutant.path],
        cwd=tree, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if patch.returncode:
        print(f"{mutant.name}: the patch does not apply cleanly, refresh it\n{patch.stdout}")
        return False
    outcome = run_tests(tree, mutant.tests)
    caught = all(ASSERTED.match(failure) for failure in outcome.tests.values())
    by = ", ".join(test.rpartition("::")[2] for test in mutant.tests)
    verdict = "caught by" if caught else "SURVIVED"
    line = f"{mutant.name:34} {mutant.plants}\n{'':34} {verdict} {by}, {outcome.seconds:.0f} s"
    if not caught:
        line += "".join(f"\n  {test}: {how or 'passed'}" for test, how in outcome.tests.items())
        line += f"\n{outcome.output[-3_000:]}"
    print(line, flush=True)
    return caught


def run_tests(tree: Path, tests: list[str] | tuple[str, ...]) -> Outcome:
    """Run tests by their node ids in a tree."""
    started, report = time.monotonic(), tree / "report.xml"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests],
        cwd=tree, env=environment(tree), check=False, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    found: dict[str, str] = dict.fromkeys(tests, "it did not run")
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        module, name = case.get("classname", "").replace(".", "/"), case.get("name", "")
        bad = {child.tag: f"{child.tag}: {child.get('message')}" for child in case}
        # What a fixture finds afterwards is told as an error of its own; the failure came first.
        how = bad.get("failure") or bad.get("error") or bad.get("skipped") or ""
        earlier = found.get(f"{module}.py::{name}", "")
        if not earlier.startswith("failure"):
            found[f"{module}.py::{name}"] = how
    return Outcome(time.monotonic() - started, found, run.stdout + run.stderr)


def environment(tree: Path) -> dict[str, str]:
    """The copy goes before what is installed."""
    own = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_PROFILE": PROFILE}
    return {**os.environ, **own}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
