"""The options that commands share, and how a command opens the pool that they name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from balancer.cli import again
from balancer.core.errors import InvalidInput, Unavailable
from balancer.log import without_secrets

if TYPE_CHECKING:
    from balancer.client import Balancer
    from balancer.ledger.pool import Pool

#: How long a command that only reads goes on trying while Redis is away, seconds.
READ_DEADLINE_S = 3.0
#: The same for a command that writes.
WRITE_DEADLINE_S = 10.0
#: Rows of a list when nobody says otherwise, and the most there can be.
LIMIT, MOST = 50, 1_000

#: What the help shows; the same as in `balancer.protocol.place`, which takes longer to load than a help may.
DEFAULT_URL, DEFAULT_POOL = "redis://127.0.0.1:6379/0", "default"

RedisUrl = Annotated[
    str,
    typer.Option(
        "--redis-url",
        metavar="URL",
        help=f"Where Redis is.  [env: BALANCER_REDIS_URL; default: {DEFAULT_URL}]",
    ),
]
PoolName = Annotated[
    str,
    typer.Option(
        "--pool", metavar="NAME", help=f"Which pool.  [env: BALANCER_POOL; default: {DEFAULT_POOL}]"
    ),
]
#: A command that takes this gets all that was said, checked: the `Loaded` of `balancer.config`.
Config = Annotated[
    Any,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings.  [env: BALANCER_CONFIG; default: balancer.toml, if it is here]",
        show_default=False,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Data as JSON on stdout, errors as JSON on stderr.")
]
Limit = Annotated[
    int, typer.Option("--limit", min=1, max=MOST, metavar="N", help="At most this many rows.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log every pass, too.")]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., None])


def group(name: str, text: str) -> typer.Typer:
    """A noun: prints its help when no verb follows."""
    app = typer.Typer(
        name=name, help=text, rich_markup_mode=None, context_settings=CONTEXT, add_completion=False
    )

    @app.callback(invoke_without_command=True)
    def show_help(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return app


def verb(app: typer.Typer, name: str) -> Callable[[F], F]:
    """Make a function a command. Its docstring is the help; paragraphs with indented lines keep their lines."""

    def register(function: F) -> F:
        paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
        told = (f"\b\n{text}" if "\n  " in text else text for text in paragraphs)
        app.command(name, help="\n\n".join(told), context_settings=CONTEXT)(_told(function))
        return function

    return register


#: Parameters of commands that are keys of the configuration, each with its option.
_FLAGS = {
    "redis_url": (("redis", "url"), "--redis-url"),
    "pool": (("pool", "name"), "--pool"),
    "strategy": (("pool", "strategy"), "--strategy"),
}


def _told(function: Callable[..., None]) -> Callable[..., None]:
    """A command that asks where Redis is, or which pool, takes `--config` too, and gets what flag, environment,
    file and default say together.
    """
    signature = inspect.signature(function, eval_str=True)
    flags = [name for name in _FLAGS if name in signature.parameters]
    if not flags:
        return function

    def command(config: str | None = None, **given: Any) -> None:
        from balancer.config import Flag, load

        again.remember(config, given.get("redis_url"), given.get("pool"))
        loaded = load(config, [Flag(*_FLAGS[name], given[name]) for name in flags])
        given |= {"redis_url": loaded.redis_url, "pool": loaded.pool} | {"config": loaded}
        function(**{name: given.get(name) for name in signature.parameters})

    unsaid = {name: signature.parameters[name].replace(default=None) for name in flags}
    own = {**signature.parameters, **unsaid}
    own["config"] = inspect.Parameter(
        "config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Config
    )
    if "as_json" in own:  # stays the last, where everybody looks for it
        own["as_json"] = own.pop("as_json")
    shown = [value.replace(kind=inspect.Parameter.KEYWORD_ONLY) for value in own.values()]
    command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    command.__annotations__ = {value.name: value.annotation for value in shown}
    return command


#: For every command: `-h` works, and help is never wider than is good to read.
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@contextmanager
def opened(redis_url: str, pool: str, deadline_s: float = READ_DEADLINE_S) -> Iterator[Balancer]:
    """The pool, opened for one command.

    Raises:
        InvalidInput: the name breaks its rule.
        Misconfigured: the address breaks one.
        PoolMissing: there is no such pool.
        Unavailable: Redis does not answer.
    """
    from balancer.client import Balancer

    with pointing_at(redis_url), Balancer(redis_url, pool, deadline_s=deadline_s) as balancer:
        yield balancer


def check_name(what: str, name: str) -> None:
    """Refuse what is not a name.

    Raises:
        InvalidInput: it is not a name.
    """
    from balancer.core.names import is_name
    from balancer.inputs import NAME_IN_WORDS

    if not is_name(name):
        raise InvalidInput(f"{what}: {name[:80]!r} {NAME_IN_WORDS}")


def asked(balancer: Balancer, question: Callable[[Pool], T]) -> T:
    """The answer to a read that the client has no method for, with the same patience.

    Raises:
        Unavailable: Redis does not answer.
    """
    from balancer.retry import answered

    return answered(lambda: question(balancer.pool), READ_DEADLINE_S)


@contextmanager
def pointing_at(redis_url: str) -> Iterator[None]:
    """Makes errors of the connection say which address they are about, without its password."""
    try:
        yield
    except Unavailable as error:
        error.hint = (
            f"is there a Redis at {without_secrets(redis_url)}? "
            "Name another with --redis-url or BALANCER_REDIS_URL; `balancer dev` starts one"
        )
        raise
