"""Which planted faults chaos finds: the short run on a copy of the code for each.

    make chaos-mutants                          # those whose patch says that chaos finds them
    python -m tests.chaos.mutants NAME...       # these
    python -m tests.chaos.mutants --all         # all, as a table

A patch that chaos finds has a line `# chaos: seed N` in its header: with this seed its short run is not clean.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.run import ROOT, Mutant, copy_tree, environment

#: Seconds that one run may take, and the seed for patches that name none.
TIMEOUT_S, SEED = 400, 1


def main() -> int:
    """Run them one after the other; 1 when one was not found that should be."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mutants")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true", help="those that chaos need not find, too")
    asked = parser.parse_args()
    mutants = [Mutant.read(path) for path in sorted(ROOT.glob("tests/mutants/*.patch"))]
    if unknown := set(asked.names) - {mutant.name for mutant in mutants}:
        raise SystemExit(f"no such mutant: {', '.join(sorted(unknown))}")
    wanted = [
        mutant
        for mutant in mutants
        if asked.all or (mutant.name in asked.names if asked.names else seed_of(mutant) is not None)
    ]
    with tempfile.TemporaryDirectory(prefix="chaos-mutants-") as folder:
        missed = [
            mutant
            for mutant in wanted
            if not judge(mutant, Path(folder)) and seed_of(mutant) is not None
        ]
    print(f"{len(missed)} of {len(wanted)} were not found that should be")
    return 1 if missed else 0


def seed_of(mutant: Mutant) -> int | None:
    """The seed with which chaos finds it; None when it need not."""
    found = re.search(r"^# chaos: seed (\d+)$", mutant.path.read_text(encoding="utf-8"), re.M)
    return int(found[1]) if found else None


def judge(mutant: Mutant, folder: Path) -> bool:
    """Plant one fault in a copy; whether the short run is not clean."""
    tree, seed, began_s = folder / mutant.name, seed_of(mutant) or SEED, time.monotonic()
    copy_tree(tree)
    patch = subprocess.run(
        ["patch", "-p1", "--fuzz=0", "--no-backup-if-mismatch", "-s", "-i", mutant.path],
        cwd=tree, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if patch.returncode:
        print(f"{mutant.name:36} the patch does not apply cleanly, refresh it")
        return False
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--short", "--json", "--seed", str(seed)],
        cwd=tree,
        env={**environment(tree), "TMPDIR": str(folder)},
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    shutil.rmtree(tree, ignore_errors=True)
    problems = json.loads(run.stdout)["problems"] if run.stdout else [run.stderr[-2_000:]]
    verdict = (
        "found"
        if run.returncode == 1 and run.stdout
        else "broke"
        if run.returncode
        else "not found"
    )
    print(
        f"{mutant.name:36} {verdict} with seed {seed}, {time.monotonic() - began_s:.0f} s\n"
        + "".join(f"    {problem[:200]}\n" for problem in problems[:3]),
        flush=True,
    )
    return verdict == "found"


if __name__ == "__main__":
    sys.exit(main())
