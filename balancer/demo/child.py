"""What the demo's child processes share."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import structlog


def arguments() -> dict[str, Any]:
    """What the parent said, as one JSON object on the command line. From now on we end with it."""
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    said: dict[str, Any] = json.loads(sys.argv[1])
    return said


def _end_with_parent() -> None:
    """Only the parent holds the other end of our standard input: it closes when the parent ends, however it ends."""
    while os.read(0, 1):
        pass
    os._exit(1)


class LineLog:
    """A file that is only added to, whole lines at a time: whoever is killed leaves no half record behind."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        # What an earlier process of ours left half written would glue to our first line.
        text = path.read_bytes()
        os.ftruncate(self._file, text.rfind(b"\n") + 1)

    def add(self, *lines: str) -> None:
        """Write the lines with one call to the system."""
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())


def whole_lines(path: Path) -> list[str]:
    """The lines of such a file; none where there is no file. A line without its end does not count."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()
