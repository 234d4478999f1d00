"""The golden vectors and the schemas, in a language with regular expressions of its own."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from balancer.protocol.schema import NAMES, schema
from tests.languages.conftest import present

HERE = Path(__file__).parent
VECTORS = sorted((HERE.parent / "vectors").glob("*.json"))


def test_every_vector_is_as_the_schema_says() -> None:
    node = present("node").tools[0]
    done = subprocess.run(
        [node, HERE / "vectors.mjs", *VECTORS],
        input=json.dumps({name: schema(name) for name in NAMES}),
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.returncode == 0
    there = sum(len(json.loads(path.read_text())) for path in VECTORS)
    assert re.fullmatch(rf"{there} vectors\n", done.stdout)
