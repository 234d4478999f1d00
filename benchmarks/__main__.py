"""Run the benchmarks: `python -m benchmarks [--quick] [--only NAME ...] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from balancer.embedded import EmbeddedRedis
from benchmarks import (
    dispatch,
    endtoend,
    latency,
    memory,
    racing,
    raw,
    scripts,
    settling,
    submitting,
)
from benchmarks.harness import Bench, quiet
from benchmarks.report import document, table

RUNS: dict[str, Callable[[Bench], None]] = {
    "submit": submitting.run,
    "dispatch": dispatch.run,
    "drainers": racing.run,
    "settle": settling.run,
    "endtoend": endtoend.run,
    "latency": latency.run,
    "scripts": scripts.run,
    "memory": memory.run,
}
RESULTS = Path(__file__).parent / "results" / "latest.json"


def machine(server: EmbeddedRedis) -> dict[str, object]:
    """What the figures depend on."""
    return {
        "cpus": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "redis-py": version("redis"),
        "hiredis": version("hiredis"),
        "server": f"{server.binary.name} {server.version}, TCP on loopback, no persistence",
        "pinned": False,
    }


def main() -> int:
    """Run, show, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: about a minute")
    parser.add_argument("--only", action="append", choices=list(RUNS), help="may be repeated")
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    chosen = parser.parse_args()
    quiet()
    start = time.monotonic()
    with EmbeddedRedis(tcp=True) as server:
        facts = machine(server)
        bench = Bench(server.url, chosen.quick)
        for name, run in {"raw": raw.run, **RUNS}.items():
            if name == "raw" or not chosen.only or name in chosen.only:
                print(f"{time.monotonic() - start:5.0f} s  {name} ...", file=sys.stderr, flush=True)
                run(bench)
    facts["seconds"] = round(time.monotonic() - start)
    print("  ".join(f"{name}: {value}" for name, value in facts.items()))
    print(table(bench.figures))
    print(
        "\nLPUSHes, scripts: rates as a share of the raw rates of this run; times in how many fit."
    )
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(document(bench.figures, facts), indent=1), encoding="utf-8")
    print(f"JSON: {chosen.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
