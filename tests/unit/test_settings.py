"""What decides in a pool: bounds, defaults, and that it reads back as it was stored."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from balancer.core.model import Priority
from balancer.core.settings import HeadStart, PoolSettings, RoleSettings, Weights


def test_defaults_read_back_as_they_were_stored() -> None:
    settings = PoolSettings()

    assert PoolSettings.model_validate_json(settings.model_dump_json()) == settings


def test_every_setting_reads_back_as_it_was_stored() -> None:
    settings = PoolSettings(
        strategy="least_loaded",
        weights=Weights(health=0.1, specialization=2, load=0),
        min_health=0.9,
        head_start_s=HeadStart(critical=1, high=2, medium=3, low=4),
        retry_delay_s=0.001,
        max_losses=1,
        max_concurrent=9,
        max_cost=8,
        roles={"dev": RoleSettings(max_concurrent=2, specializations=("go",), max_cost=3)},
        specializations={"kind": ("a", "b")},
        estimate_min={"bug": 0.5},
        default_estimate_min=2,
    )

    assert PoolSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"strategy": "at_random"}, "strategy"),
        ({"strategy": "package.Class"}, "strategy"),
        ({"strategy": "a-b:C"}, "strategy"),
        ({"strategy": "os:path; rm"}, "strategy"),
        ({"seed": -1}, "seed"),
        ({"weights": {"health": -1}}, "weights.health"),
        ({"weights": {"load": math.nan}}, "weights.load"),
        ({"weights": {"speed": 1}}, "weights.speed"),
        ({"min_health": 1.1}, "min_health"),
        ({"min_health": math.nan}, "min_health"),
        ({"head_start_s": {"high": -1}}, "head_start_s.high"),
        ({"head_start_s": {"low": 86_401}}, "head_start_s.low"),
        ({"retry_delay_s": 0}, "retry_delay_s"),
        ({"retry_delay_s": 86_401}, "retry_delay_s"),
        ({"retry_delay_s": math.nan}, "retry_delay_s"),
        ({"max_losses": 0}, "max_losses"),
        ({"max_losses": 101}, "max_losses"),
        ({"max_losses": 1.0}, "max_losses"),
        ({"max_concurrent": 0}, "max_concurrent"),
        ({"max_cost": 1_001}, "max_cost"),
        ({"roles": {"a b": {}}}, "roles.a b"),
        ({"roles": {"dev": {"max_cost": 0}}}, "roles.dev.max_cost"),
        ({"roles": {f"r{n}": {} for n in range(257)}}, "roles"),
        ({"estimate_min": {"bug": 0}}, "estimate_min.bug"),
        ({"default_estimate_min": math.inf}, "default_estimate_min"),
        ({"colour": "red"}, "colour"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_setting_out_of_bounds_is_refused_by_its_name(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        PoolSettings.model_validate(settings)

    assert field in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        setattr(PoolSettings(), "max_losses", 5)  # noqa: B010 - a type checker refuses the plain form


@pytest.mark.parametrize(
    ("priority", "seconds"), [("critical", 3_600), ("high", 600), ("medium", 60), ("low", 0)]
)
def test_head_start_by_priority(priority: str, seconds: float) -> None:
    assert HeadStart().of(Priority(priority)) == seconds


def test_estimate_falls_back_to_the_default() -> None:
    settings = PoolSettings(estimate_min={"bug": 1.5}, default_estimate_min=2)

    assert (settings.estimate_s("bug"), settings.estimate_s("other")) == (90, 120)


def test_units_of_an_agent_that_declares_none() -> None:
    settings = PoolSettings(
        max_concurrent=6, roles={"dev": RoleSettings(max_concurrent=2), "ops": RoleSettings()}
    )

    assert [settings.max_concurrent_of(role) for role in ("dev", "ops", "new")] == [2, 6, 6]


def test_specializations_of_an_agent_that_declares_none() -> None:
    """Its role's, else its type's; an empty list of the role's is a statement, not a gap."""
    settings = PoolSettings(
        roles={
            "dev": RoleSettings(specializations=("go",)),
            "none": RoleSettings(specializations=()),
            "ops": RoleSettings(),
        },
        specializations={"kind": ("a",)},
    )

    found = [settings.specializations_of(role, "kind") for role in ("dev", "none", "ops", "new")]
    assert found == [("go",), (), ("a",), ("a",)]
    assert settings.specializations_of("new", "") == ()


def test_defaults_are_those_of_the_seeds() -> None:
    settings = PoolSettings()
    assert settings.weights.model_dump() == {"health": 1.0, "specialization": 0.3, "load": 0.2}
    assert (settings.min_health, settings.max_concurrent) == (0.5, 5)
    assert settings.specializations == {
        "build-agent": ("feature", "bug", "infrastructure", "migration"),
        "spec-agent": ("documentation", "technical_debt", "refactoring"),
        "validation-agent": ("testing", "security", "performance"),
        "ux-agent": ("ux_design", "improvement"),
    }
    assert settings.estimate_min == {
        "feature": 120,
        "bug": 60,
        "improvement": 90,
        "documentation": 30,
        "refactoring": 90,
        "testing": 60,
    }
    assert settings.default_estimate_min == 60
