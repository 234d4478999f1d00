"""The loader: precedence, origins, and every broken rule at once with its key, value, rule and origin."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from balancer.config import Flag, Loaded, differences, load
from balancer.config.example import example
from balancer.config.keys import every_key, key_at
from balancer.config.sources import MAX_BYTES
from balancer.core.errors import InvalidInput, Misconfigured
from balancer.core.settings import PoolSettings

Load = Callable[..., Loaded]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a text as the `balancer.toml` of the current directory."""
    monkeypatch.chdir(tmp_path)

    def load_it(
        text: str | None = None, *flags: Flag, environment: Mapping[str, str] | None = None
    ) -> Loaded:
        if text is not None:
            (tmp_path / "balancer.toml").write_text(text)
        return load(None, flags, environment or {})

    return load_it


def strategy(value: str) -> Flag:
    return Flag(("pool", "strategy"), "--strategy", value)


def test_nothing_said_is_the_defaults(loaded: Load) -> None:
    found = loaded()
    assert found.settings == PoolSettings()
    assert found.given_settings is None
    assert (found.redis_url, found.pool, found.file) == (
        "redis://127.0.0.1:6379/0",
        "default",
        None,
    )
    assert {str(origin) for _, _, origin in found.rows()} == {"default"}


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(
    loaded: Load, tmp_path: Path
) -> None:
    text = """
        [pool]
        strategy = "least_loaded"
        max_losses = 7
        max_cost = 9
        weights.health = 2
        """
    environment = {"BALANCER_POOL_STRATEGY": "least_loaded", "BALANCER_POOL_MAX_LOSSES": "8"}
    found = loaded(text, strategy("best_match"), environment=environment)
    shown = {key: (value, str(origin)) for key, value, origin in found.rows()}
    file = f"file {tmp_path / 'balancer.toml'}"
    assert shown["pool.strategy"] == ("best_match", "flag --strategy")
    assert shown["pool.max_losses"] == (8, "environment BALANCER_POOL_MAX_LOSSES")
    assert shown["pool.max_cost"] == (9, file)
    assert shown["pool.weights.health"] == (2.0, file)
    assert shown["pool.weights.load"] == (0.2, "default")
    assert (found.settings.strategy, found.settings.max_losses) == ("best_match", 8)
    assert found.given_settings == found.settings


@pytest.mark.parametrize("key", [key for key in every_key() if key.variable], ids=lambda k: k.name)
def test_every_variable_reaches_its_key(loaded: Load, key: Any, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.touch(mode=0o600)
    secret.write_text("redis://h/0\n")
    strings = {
        "redis.url": "redis://h/1",
        "redis.url_file": str(secret),
        "pool.genesis": "0" * 32,
        "log.format": "text",
        "log.level": "debug",
        "pool.strategy": "least_loaded",
    }
    assert key.variable is not None
    schema = key.schema
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    value: Any
    if key.kind == "boolean":
        value = not key.default
    elif key.kind in ("integer", "number"):
        value = (low + high) // 2 if key.kind == "integer" else round((low + high) / 2, 3)
        if key.name in ("serve.tick_s", "serve.sweep_s"):
            value = 2.5
    else:
        value = strings.get(key.name, "name")
    said = json.dumps(value) if key.kind == "boolean" else str(value)
    found = loaded(environment={key.variable: said})
    shown = {name: (value, str(origin)) for name, value, origin in found.rows()}
    assert shown[key.name] == (value, f"environment {key.variable}")


def test_variables_are_all_different() -> None:
    variables = [key.variable for key in every_key() if key.variable]
    assert len(set(variables)) == len(variables) > 20


def test_a_variable_that_is_none_of_ours_is_told_not_refused(loaded: Load) -> None:
    found = loaded(environment={"BALANCER_SERVICE_HOST": "10.0.0.1", "BALANCER_DEBUG": "1"})
    assert found.unknown == ("BALANCER_SERVICE_HOST",)


def test_tables_by_name_stand_at_the_top(loaded: Load) -> None:
    found = loaded(
        """
        [roles.reviewer]
        agents = 2
        max_concurrent = 3
        [roles.idle]
        [specializations]
        bot = ["bug"]
        [estimate_min]
        bug = 5
        """
    )
    assert found.settings.roles["reviewer"].agents == 2
    assert found.settings.max_concurrent_of("reviewer") == 3
    assert "idle" in found.settings.roles
    assert found.settings.specializations == {"bot": ("bug",)}
    assert found.settings.estimate_min == {"bug": 5.0}
    assert found.given_settings is not None


def test_the_name_of_the_pool_is_no_setting_of_it(loaded: Load) -> None:
    found = loaded(f'[pool]\nname = "builds"\ngenesis = "{"a" * 32}"\n[log]\nlevel = "debug"\n')
    assert (found.pool, found.given_settings) == ("builds", None)


def test_the_example_has_every_key_and_changes_nothing(loaded: Load) -> None:
    found = loaded(example())
    assert (found.settings, found.given_settings) == (PoolSettings(), None)
    for key in every_key():
        if key.path[-1] != "*":
            assert re.search(rf"^#{key.path[-1]} = ", example(), re.M), key.name
            assert key.bounds in " ".join(example().replace("\n#", "").split())


def test_the_example_uncommented_holds_the_defaults(loaded: Load) -> None:
    text = example()
    for sample in ("url_file", "genesis"):  # without a default
        text = re.sub(rf"^#{sample} = .*\n", "", text, flags=re.M)
    text = re.sub(r"^#\[roles\.reviewer\]\n(?:#.*\n)*", "", text, flags=re.M)
    live = re.sub(r"^#(?=[\[\w\"])", "", text, flags=re.M)
    found = loaded(live)
    assert found.settings == PoolSettings()
    origins = {
        key: origin.kind
        for key, _, origin in found.rows()
        if key not in ("redis.url_file", "pool.genesis", "roles")
    }
    assert set(origins.values()) == {"file"}


def test_the_samples_of_the_example_are_valid(loaded: Load) -> None:
    live = re.sub(r"^#(?=[\[\w\"])(?!url)", "", example(), flags=re.M)
    found = loaded(live)
    assert found.settings.roles["reviewer"].agents == 2
    assert found.process.pool.genesis is not None


#: A text of the file, and what is said of it.
BROKEN = [
    ("[pool]\nstrategi = 'best_match'", "pool.strategi: unknown key, did you mean 'strategy'?"),
    ("[pool.weights]\nhelth = 1", "pool.weights.helth: unknown key, did you mean 'health'?"),
    ("[roles.dev]\nmax_concurent = 1", "roles.dev.max_concurent: unknown key, did you mean 'max_concurrent'?"),
    ("[pol]\nx = 1", "pol: unknown table, did you mean [pool]?"),
    ("strategy = 'x'", "strategy: unknown key, did you mean 'pool.strategy'?"),
    ("pool = 3", "pool: 3 is not a table; write [pool]"),
    ("roles = []", "roles: [] is not a table; write [roles]"),
    ("[roles]\ndev = 3", "roles.dev: 3"),
    ("[pool]\nweights = 3", "pool.weights: 3"),
    ("[pool]\nretry_delay_s = '30s'", "'30s' is not a number (a plain number of seconds)"),
    ("[pool]\nretry_delay_s = '30'", "'30' is not a number"),
    ("[pool]\nretry_delay = 30", "pool.retry_delay: unknown key, did you mean 'retry_delay_s'?"),
    ("[pool]\nretry_delay_s = 0", "0 is not within 0.001 to 86,400 seconds"),
    ("[pool]\nmin_health = nan", "min_health: nan"),
    ("[pool]\nmin_health = true", "true is not a number"),
    ("[pool]\nmax_losses = 2.0", "2.0 is not a whole number"),
    ("[pool]\nmax_losses = true", "true is not a whole number"),
    ("[pool]\nmax_losses = 101", "101 is not within 1 to 100"),
    ("[pool]\nmax_cost = 1979-05-27", "1979-05-27 is a date or a time"),
    ("[pool]\nstrategy = 'magic'", "pool.strategy: 'magic' is none of fit, best_match, least_loaded"),
    ("[pool]\nname = 'a b'", "'a b' is not a name"),
    ("[pool]\nname = \"a\\u001b[31m\"", "\\x1b[31m' is not a name"),
    ("[pool]\ngenesis = 'x'", "pool.genesis: 'x'"),
    ("[roles.'x y']\nagents = 1", "roles.x y: 'x y' is not a name"),
    ("[roles.dev]\nagents = -1", "-1 is not within 0 to 50,000"),
    ("[roles.dev]\nspecializations = ['a b']", "'a b' is not a name"),
    ("[roles.dev]\nspecializations = 'bug'", "'bug' is not a list of names"),
    ("[roles.dev]\nspecializations = [1979-05-27]", "is a date or a time"),
    ("[estimate_min]\nbug = '30s'", "'30s' is not a number (a plain number of minutes)"),
    ("[estimate_min]\nbug = inf", "estimate_min.bug: inf"),
    ("[log]\nformat = 'xml'", "'xml' is none of auto, json, text"),
    ("[serve]\ntick_s = 20", "silent_s of 30 is not more than two passes of 20 seconds"),
    ("[redis]\nurl = ''", "redis.url: ''"),
    ("[redis]\nurl = 'http://h'", "is no address of a Redis"),
    ("[redis]\nurl = 'redis://h:port'", "is no address of a Redis"),
    ("[redis]\nurl_file = '/'", "redis.url_file: cannot read '/'"),
    ("[redis]\nurl_file = '/nowhere'", "redis.url_file: cannot read '/nowhere'"),
    ("[redis]\nurl_file = '/dev/null'", "redis.url_file: '/dev/null' is not a file"),
    ("[redis]\nurl_file = '/x'\nurl = 'redis://h'", "redis.url_file: '/x' is given together with redis.url"),
    ("x = [", "is not TOML"),
    ("[pool]\nname = 'a'\nname = 'b'", "is not TOML"),
    ("x = " + "[" * 5000 + "]" * 5000, "nested too deep"),
    (f"[pool]\n{'.'.join('a' * 5000)} = 1", "nested too deep"),
    ("x = " + "9" * 5000, "is not TOML"),
    ("x = !!python/object", "is not TOML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BROKEN, ids=lambda value: value[:40])
def test_a_broken_rule_is_told(loaded: Load, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        loaded(text)
    (line,) = str(caught.value).splitlines()
    assert said in line
    assert str(tmp_path / "balancer.toml") in line
    assert line.isprintable()


def test_all_broken_rules_are_told_at_once_each_with_its_origin(
    loaded: Load, tmp_path: Path
) -> None:
    environment = {
        "BALANCER_POOL": " ",
        "BALANCER_POOL_MAX_COST": "\uff11\uff12",
        "BALANCER_POOL_WEIGHTS_LOAD": "1e3",
        "BALANCER_POOL_MAX_CONCURRENT": "1_000",
    }
    text = "[pool]\nmin_health = 2\nmax_losses = 0\n[roles.dev]\nmax_cost = 0\n"
    with pytest.raises(Misconfigured) as caught:
        loaded(text, strategy("magic"), environment=environment)
    lines = str(caught.value).splitlines()
    file = f"(file {tmp_path / 'balancer.toml'})"
    expected = [
        "--strategy: 'magic' ",
        "pool.name: is set but empty; give it a value or unset it (environment BALANCER_POOL)",
        "pool.max_cost: '\uff11\uff12' is not a whole number (environment BALANCER_POOL_MAX_COST)",
        "pool.weights.load: '1e3' is not a number (environment BALANCER_POOL_WEIGHTS_LOAD)",
        "pool.max_concurrent: '1_000' is not a whole number",
        f"pool.min_health: 2 is not within 0 to 1 {file}",
        f"pool.max_losses: 0 is not within 1 to 100 {file}",
        f"roles.dev.max_cost: 0 is not within 1 to 1,000 {file}",
    ]
    assert len(lines) == len(expected)
    for text in expected:
        assert sum(line.startswith(text) for line in lines) == 1, text


def test_a_file_that_cannot_be_read_hides_no_other_mistake(loaded: Load) -> None:
    with pytest.raises(Misconfigured) as caught:
        loaded("x = [", environment={"BALANCER_POOL_MAX_LOSSES": "0"})
    assert len(str(caught.value).splitlines()) == 2


def test_what_is_wrong_on_the_command_line_alone_is_usage(loaded: Load) -> None:
    with pytest.raises(InvalidInput, match=r"^--strategy: 'magic' "):
        loaded(None, strategy("magic"))
    with pytest.raises(Misconfigured, match=r"^--redis-url: .* not valid Unicode"):
        loaded(None, Flag(("redis", "url"), "--redis-url", "redis://\udcff"))
    with pytest.raises(Misconfigured, match=r"^--redis-url: is no address of a Redis: the scheme"):
        loaded(None, Flag(("redis", "url"), "--redis-url", "http://u:secret@h"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_bytes(b"[pool]\nname = '\xff'"), "not UTF-8 at byte 15"),
        (lambda path: path.write_bytes("[pool]".encode("utf-16")), "not UTF-8 at byte 0"),
        (lambda path: path.write_bytes(b"\xef\xbb\xbf[pool]"), "byte order mark"),
        (lambda path: path.write_bytes(b"#" * (MAX_BYTES + 1)), "larger than 1 MiB"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 1 << 30), "larger than 1 MiB"),
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.symlink_to("/nowhere"), "cannot read"),
    ],
)  # fmt: skip
def test_a_file_that_is_none(
    loaded: Load, tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path / "balancer.toml")
    with pytest.raises(Misconfigured, match=said):
        loaded()


def test_the_file_is_named_by_flag_or_variable(loaded: Load, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[pool]\nname = 'other'\n")
    here = tmp_path / "balancer.toml"
    here.write_text("[pool]\nname = 'here'\n")
    assert loaded().pool == "here"
    assert loaded(environment={"BALANCER_CONFIG": str(other)}).pool == "other"
    assert load(str(here), (), {"BALANCER_CONFIG": str(other)}).pool == "here"
    for named, said in (("", "is set but empty"), ("/nowhere", "cannot read"), ("a\0b", "cannot")):
        with pytest.raises(Misconfigured, match=f"^BALANCER_CONFIG: .*{said}"):
            loaded(environment={"BALANCER_CONFIG": named})


def test_a_password_in_a_file_that_everybody_reads_is_refused(loaded: Load, tmp_path: Path) -> None:
    file = tmp_path / "balancer.toml"
    file.touch(mode=0o644)
    with pytest.raises(Misconfigured, match="every user of this machine can read") as caught:
        loaded("[redis]\nurl = 'redis://:secret@h/0'\n")
    assert "secret" not in str(caught.value)
    file.chmod(0o640)
    found = loaded()
    assert found.redis_url == "redis://:secret@h/0"
    assert "secret" not in str(list(found.rows()))


def secret_file(path: Path, text: bytes, mode: int = 0o600) -> str:
    path.touch(mode=0o600)
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


def test_the_address_may_stand_in_a_file_of_its_own(loaded: Load, tmp_path: Path) -> None:
    file = secret_file(tmp_path / "url", b"redis://:secret@h/3\n")
    link = tmp_path / "link"
    link.symlink_to(file)
    environment = {"BALANCER_REDIS_URL_FILE": str(link)}
    assert loaded(environment=environment).redis_url == "redis://:secret@h/3"
    shown = {
        key: (value, str(origin)) for key, value, origin in loaded(environment=environment).rows()
    }
    assert shown["redis.url"] == ("redis://***@h/3", "environment BALANCER_REDIS_URL_FILE")
    # The stronger source decides between the two ways to say it.
    flag = Flag(("redis", "url"), "--redis-url", "redis://flag/0")
    assert loaded(None, flag, environment=environment).redis_url == "redis://flag/0"
    found = loaded("[redis]\nurl = 'redis://file/0'\n", environment=environment)
    assert found.redis_url == "redis://:secret@h/3"
    assert "secret" not in str(list(found.rows()))
    with pytest.raises(Misconfigured, match="given together"):
        loaded(environment=environment | {"BALANCER_REDIS_URL": "redis://h/0"})


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (b"redis://h", 0o644, "every user of this machine can read"),
        (b"redis://h", 0o604, "every user of this machine can read"),
        (b"", 0o600, "does not hold one line"),
        (b"a\nb\n", 0o600, "does not hold one line"),
        (b"\xff", 0o600, "not UTF-8"),
        (b"x" * 5000, 0o600, "larger than 4096 bytes"),
        (b"http://h", 0o600, "no address of a Redis"),
    ],
)
def test_a_file_unfit_for_a_secret(
    loaded: Load, tmp_path: Path, text: bytes, mode: int, said: str
) -> None:
    file = secret_file(tmp_path / "url", text, mode)
    with pytest.raises(Misconfigured, match=said):
        loaded(environment={"BALANCER_REDIS_URL_FILE": file})


def test_keys_know_their_unit_and_bounds() -> None:
    key = key_at(("pool", "head_start_s", "low"))
    assert key is not None
    assert (key.bounds, key.unit, key.variable) == (
        "0 to 86,400",
        "seconds",
        "BALANCER_POOL_HEAD_START_S_LOW",
    )
    role = key_at(("roles", "dev", "agents"))
    assert role is not None
    assert (role.name, role.variable) == ("roles.*.agents", None)
    assert key_at(("pool", "nothing")) is None


def test_a_difference_is_what_somebody_said_otherwise() -> None:
    stored = PoolSettings(max_losses=5, estimate_min={"bug": 2}, roles={"dev": {"agents": 1}})
    assert differences(PoolSettings(), stored) == []
    assert differences(stored, stored) == []
    told = PoolSettings(max_losses=4, min_health=0.5, estimate_min={"fix": 1})
    assert differences(told, stored) == [
        "estimate_min.bug is 2.0, not unset",
        "estimate_min.fix is unset, not 1.0",
        "pool.max_losses is 5, not 4",
    ]


def test_a_file_full_of_mistakes_is_told_in_part_and_soon(loaded: Load) -> None:
    began = time.monotonic()
    text = "".join(f"top{n} = 1\n" for n in range(20_000)) + "[pool]\n"
    text += "".join(f"strategy{n} = 1\n" for n in range(20_000))
    with pytest.raises(Misconfigured) as caught:
        loaded(text)
    lines = str(caught.value).splitlines()
    assert (len(lines), lines[-1]) == (101, "and 39900 more")
    assert time.monotonic() - began < 10
