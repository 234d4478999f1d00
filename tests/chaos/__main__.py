"""Chaos: real processes under random faults, then an audit and a check of every lease.

    make chaos SEED=7            # 20,000 tasks, about two and a half minutes
    make chaos-short SEED=7      # the same idea in 40 seconds

The seed repeats the inputs and the schedule of faults. What the processes make of it is theirs.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

from balancer.embedded import EmbeddedRedis
from tests.chaos.inputs import make_inputs
from tests.chaos.schedule import FULL, SHORT, make_schedule
from tests.chaos.stage import Stage
from tests.chaos.verdict import make_verdict, render
from tests.support.proxy import Proxy

#: A run that takes longer is given up, and what then still hangs is ended, seconds.
PATIENCE_S, SHORT_PATIENCE_S, HANGS_S = 480.0, 180.0, 120.0
#: Redis answers for nothing that is not on disk, and its file is the whole history.
CONFIG = {"appendfsync": "always", "auto-aof-rewrite-percentage": "0"}


def main() -> int:
    """Run once. 0: clean; 1: not clean."""
    asked = _arguments()
    profile = SHORT if asked.short else FULL
    patience_s = SHORT_PATIENCE_S if asked.short else PATIENCE_S
    _never_hang(patience_s + HANGS_S)
    print(f"seed {asked.seed}", file=sys.stderr, flush=True)
    inputs = make_inputs(asked.seed, profile.tasks)
    schedule = make_schedule(asked.seed, profile)
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{asked.seed}-"))
    is_clean = False
    with EmbeddedRedis(appendonly=True, config=CONFIG, start_timeout_s=60.0) as server:
        try:
            with Proxy(server.url) as proxy:
                stage = Stage(
                    inputs, schedule, server, proxy, directory, patience_s=patience_s, tell=_tell
                )
                outcome = stage.run()
            verdict = make_verdict(
                asked.seed,
                inputs,
                outcome,
                is_short=asked.short,
                directory=directory,
                data=server.directory,
            )
            is_clean = bool(verdict["ok"])
        finally:
            if not is_clean or asked.keep:
                server.kill()
                shutil.copytree(
                    server.directory, directory / "redis", ignore=shutil.ignore_patterns("*.sock")
                )
                print(f"logs and the append-only file: {directory}", file=sys.stderr)
            else:
                shutil.rmtree(directory, ignore_errors=True)
    if asked.keep or not is_clean:
        (directory / "verdict.json").write_text(json.dumps(verdict, indent=2), encoding="utf-8")
    print(json.dumps(verdict, indent=2) if asked.json else render(verdict))
    return 0 if is_clean else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--short", action="store_true", help="fewer tasks and faults")
    parser.add_argument("--json", action="store_true", help="the verdict as JSON")
    parser.add_argument("--keep", action="store_true", help="keep the files of a clean run, too")
    return parser.parse_args()


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _never_hang(after_s: float) -> None:
    """The last resort. Redis and all children watch a pipe of ours: they end with us, however we end."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit("interrupted: everything was stopped")

    signal.signal(signal.SIGTERM, interrupt)

    def give_up() -> None:
        print(f"chaos hangs after {after_s:.0f} s: given up", file=sys.stderr, flush=True)
        signal.raise_signal(signal.SIGKILL)

    timer = threading.Timer(after_s, give_up)
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main())
