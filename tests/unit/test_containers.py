"""The image and the compose file, parsed and held against the commands, the loader and the tree. No Docker needed."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
import yaml

from balancer.cli.root import app as balancer_app
from balancer.config import load
from balancer.doctor import Level
from balancer.doctor.memory import eviction
from balancer.doctor.persistence import persistence
from balancer.doctor.visit import Visit
from balancer.embedded import EmbeddedRedis
from balancer.protocol import connect
from worker.cli import app as worker_app

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-run.lock", "requirements-build.lock")


class Line(NamedTuple):
    """One instruction of a Dockerfile."""

    word: str
    text: str


def _dockerfile() -> list[list[Line]]:
    """Instructions, stage by stage."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    stages: list[list[Line]] = []
    for row in text.replace("\\\n", " ").splitlines():
        if row.strip():
            word, _, rest = row.partition(" ")
            if word == "FROM":
                stages.append([])
            stages[-1].append(Line(word, rest.strip()))
    return stages


STAGES = _dockerfile()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = ["balancer", "worker-1", "worker-2"]


def lines(stage: int, word: str) -> list[str]:
    return [line.text for line in STAGES[stage] if line.word == word]


def parse(words: Sequence[str]) -> None:
    """Parse a command line as the command itself does, and run nothing.

    Raises:
        typer.TyperException: it would not take it.
    """
    tool, *rest = words
    command: Any = typer.main.get_command({"balancer": balancer_app, "worker": worker_app}[tool])
    context = None
    while hasattr(command, "resolve_command"):
        context = command.make_context(command.name, [*rest], parent=context)
        _, command, rest = command.resolve_command(context, [*rest])
    command.make_context(command.name, [*rest], parent=context)


def test_the_parser_tells_what_a_command_does_not_take() -> None:
    parse(["balancer", "task", "ls", "--limit", "3"])
    for wrong in (["balancer", "serve", "--nonsense"], ["balancer", "surve"], ["worker", "walk"]):
        with pytest.raises(typer.TyperException):
            parse(wrong)


# --- the image ---


def test_stages_begin_with_a_pinned_base_and_the_last_one_builds_nothing() -> None:
    assert len(STAGES) > 1
    for stage in STAGES:
        image = stage[0].text.partition(" AS ")[0]
        assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", image), image
    assert not any("pip" in text for text in lines(-1, "RUN"))


def test_the_image_runs_as_nobody_special() -> None:
    (user,) = lines(-1, "USER")
    assert int(user.partition(":")[0]) >= 1_000
    words = [line.word for line in STAGES[-1]]
    assert words.index("USER") < words.index("CMD")
    assert lines(-1, "STOPSIGNAL") == ["SIGTERM"]


def test_what_pip_installs_is_checked_by_hash() -> None:
    calls = [call for text in lines(0, "RUN") for call in text.split("&&") if "pip install" in call]
    assert len(calls) == 3
    for call in calls:
        words = shlex.split(call)
        assert "--no-deps" in words
        if "-r" in words:
            assert "--require-hashes" in words
            assert words[words.index("-r") + 1] in lines(0, "COPY")[0].split()
        else:
            assert "--no-index" in words, "our own wheel, and nothing from elsewhere"


def test_commands_of_the_image_exist() -> None:
    (command,) = lines(-1, "CMD")
    parse(json.loads(command))
    (check,) = lines(-1, "HEALTHCHECK")
    parse(json.loads(check.partition(" CMD ")[2]))
    assert "curl" not in (ROOT / "Dockerfile").read_text().replace("not curl", "")


def sent(path: Path) -> bool:
    """Whether .dockerignore lets a path of the tree be sent to the builder; the last rule that matches decides."""
    verdict = True
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        if not rule or rule.startswith("#"):
            continue
        pattern = rule.removeprefix("!")
        parts = [path, *path.parents[:-1]]
        names = [part.name if pattern.startswith("**/") else str(part) for part in parts]
        if any(fnmatch.fnmatch(name, pattern.removeprefix("**/")) for name in names):
            verdict = rule.startswith("!")
    return verdict


def copied() -> Iterator[Path]:
    """Files of the tree that the first stage copies."""
    for text in lines(0, "COPY"):
        for source in text.split()[:-1]:
            path = ROOT / source
            assert path.exists(), source
            yield from (path.rglob("*") if path.is_dir() else [path])


def test_what_the_image_is_built_from_is_there_and_is_enough(tmp_path: Path) -> None:
    for path in copied():
        relative = path.relative_to(ROOT)
        if path.is_file() and "__pycache__" not in path.parts:
            assert sent(relative), relative
            (tmp_path / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / relative)
    for secret in (".env", "balancer.toml", "tests/conftest.py", ".git/config"):
        assert not sent(Path(secret))
    calls = [call for text in lines(0, "RUN") for call in text.split("&&")]
    (build,) = [call for call in calls if "-m hatchling" in call]
    words = [sys.executable, *shlex.split(build)[1:]]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    code = {
        str(path.relative_to(ROOT))
        for package in ("balancer", "worker")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".lua", ".typed", ".gz")
    }
    assert names >= code


def test_the_version_of_the_image_is_that_of_the_project() -> None:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version
    assert {SERVICES[name]["image"] for name in OWN} == {f"workload-balancer:{version[1]}"}


# --- the locks ---


def locked(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Package to version and hashes."""
    text = (ROOT / name).read_text()
    found = re.findall(r"^([\w.-]+)(?:\[\w+\])?==(\S+)(.*?)(?=^\S|\Z)", text, re.M | re.S)
    return {
        package: (version, frozenset(re.findall(r"sha256:\w+", rest)))
        for package, version, rest in found
    }


def test_the_locks_agree_and_name_no_index() -> None:
    whole = locked("requirements.lock")
    for name in LOCKS:
        assert "http" not in (ROOT / name).read_text()
        assert all(hashes for _, hashes in locked(name).values())
    for name in LOCKS[1:]:
        for package, pinned in locked(name).items():
            assert whole[package] == pinned, package
    assert {"redis", "pydantic", "structlog", "typer", "rich"} <= locked(LOCKS[1]).keys()
    assert not {"pytest", "mypy", "fakeredis"} & locked(LOCKS[1]).keys()
    assert "hatchling" in locked(LOCKS[2])


# --- compose ---


def test_the_services() -> None:
    assert set(SERVICES) == {"redis", *OWN}
    assert "version" not in COMPOSE
    for name, service in SERVICES.items():
        assert service["restart"] == "unless-stopped", name
        assert str(service["user"]).partition(":")[0] not in ("", "0", "root"), name
        assert service["cap_drop"] == ["ALL"], name
        assert re.search(r":\d+\.\d+\.\d+", service["image"]), name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), port
    for name in OWN:
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["depends_on"]["redis"]["condition"] == "service_healthy"
    assert (ROOT / SERVICES["balancer"]["build"] / "Dockerfile").is_file()


def test_data_lies_on_a_named_volume() -> None:
    (volume,) = SERVICES["redis"]["volumes"]
    name, _, target = volume.partition(":")
    assert name in COMPOSE["volumes"]
    assert target == "/data"


@pytest.mark.parametrize("name", OWN)
def test_commands_and_health_checks_are_ones_that_exist(name: str) -> None:
    service = SERVICES[name]
    parse(service["command"])
    kind, *check = service["healthcheck"]["test"]
    assert kind == "CMD"
    parse(check)
    if name != "balancer":
        words = service["command"]
        assert check[check.index("--agent") + 1] == words[words.index("--id") + 1]
        (mount,) = service["volumes"]
        module = words[2].partition(":")[0]
        assert (ROOT / mount.partition(":")[0] / f"{module}.py").is_file()
        assert mount.split(":")[1] == lines(-1, "WORKDIR")[0]


def test_commands_that_pages_tell_to_run_in_a_container_exist() -> None:
    told = [
        (service, shlex.split(command))
        for page in ("docker-compose.yml", "docs/operations.md")
        for service, command in re.findall(
            r"docker compose exec (\w+) (.+)", (ROOT / page).read_text()
        )
    ]
    assert len(told) >= 3
    for service, words in told:
        assert service in SERVICES
        parse(words)


def test_no_check_needs_curl() -> None:
    for service in SERVICES.values():
        assert not {"curl", "wget"} & set(" ".join(service["healthcheck"]["test"]).split())


@pytest.mark.parametrize("name", OWN)
def test_the_environment_is_one_that_the_loader_takes(name: str) -> None:
    environment = SERVICES[name]["environment"]
    found = load(None, (), environment)
    assert found.unknown == ()
    assert found.redis_url == "redis://redis:6379/0", "the name of the service"
    assert found.process.log.format == "json"
    assert {key for key in environment if key.startswith("BALANCER_")} == set(environment)


def test_redis_keeps_what_it_is_given_and_throws_nothing_away() -> None:
    program, *rest = SERVICES["redis"]["command"]
    assert program == "redis-server"
    options = {
        name.removeprefix("--"): value or '""'
        for name, value in zip(rest[::2], rest[1::2], strict=True)
    }
    assert all(name.startswith("--") for name in rest[::2])
    with EmbeddedRedis(config=options) as server, connect(server.url) as client:
        visit = Visit(client, load(None, (), {}))
        (row,) = persistence(visit)
        assert (row.level, "appendfsync everysec" in row.found) == (Level.OK, True)
        assert [row.level for row in eviction(visit)] == [Level.OK]
        assert visit.number("maxmemory") == 256 << 20
