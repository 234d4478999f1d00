"""Where Redis is and which pool is meant, when nobody says so in the call: the environment, else the defaults."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from balancer.core.errors import Misconfigured

URL_VARIABLE, URL_FILE_VARIABLE = "BALANCER_REDIS_URL", "BALANCER_REDIS_URL_FILE"
POOL_VARIABLE = "BALANCER_POOL"
DEFAULT_URL, DEFAULT_POOL = "redis://127.0.0.1:6379/0", "default"
#: Largest file that holds an address, bytes.
MAX_SECRET_BYTES = 4_096


def redis_url(given: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """The address: as given, else $BALANCER_REDIS_URL or what the file $BALANCER_REDIS_URL_FILE holds.

    Raises:
        Misconfigured: a variable is set but empty, both are set, or the file is not fit to hold a secret.
    """
    if given is not None:
        return given
    url, file = said(URL_VARIABLE, environment), said(URL_FILE_VARIABLE, environment)
    if url is not None and file is not None:
        raise Misconfigured(f"{URL_VARIABLE}, {URL_FILE_VARIABLE}: both are set; give one of them")
    if file is not None:
        return read_secret(file, URL_FILE_VARIABLE)
    return url or DEFAULT_URL


def pool_name(given: str | None = None, environment: Mapping[str, str] = os.environ) -> str:
    """The pool: as given, else $BALANCER_POOL, else `default`.

    Raises:
        Misconfigured: the variable is set but empty.
    """
    return said(POOL_VARIABLE, environment) or DEFAULT_POOL if given is None else given


def said(variable: str, environment: Mapping[str, str]) -> str | None:
    """What a variable says; None when it is not set.

    Raises:
        Misconfigured: it is set but empty, which is an accident of a shell or a template more often than a wish.
    """
    value = environment.get(variable)
    if value is not None and not value.strip():
        raise Misconfigured(f"{variable}: is set but empty; give it a value or unset it")
    return value


def read_secret(path: str, what: str) -> str:
    """The one line of a file that holds a secret.

    Args:
        path: the file; a link to one is followed, as containers mount them.
        what: names it in errors.

    Raises:
        Misconfigured: it cannot be read, every user of the machine can read it, or it is not one line of text.
    """
    try:
        opened = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise Misconfigured(f"{what}: cannot read {path!r}: {why}") from None
    with opened:
        mode = os.fstat(opened.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise Misconfigured(f"{what}: {path!r} is not a file")
        if mode & stat.S_IROTH:
            raise Misconfigured(
                f"{what}: every user of this machine can read {path!r}; chmod 600 (or 640) it"
            )
        data = opened.read(MAX_SECRET_BYTES + 1)
    if len(data) > MAX_SECRET_BYTES:
        raise Misconfigured(f"{what}: {path!r} is larger than {MAX_SECRET_BYTES} bytes")
    try:
        lines = data.decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise Misconfigured(f"{what}: {path!r} is not UTF-8 at byte {error.start}") from None
    if len(lines) != 1 or not lines[0].strip():
        raise Misconfigured(f"{what}: {path!r} does not hold one line with an address")
    return lines[0].strip()
