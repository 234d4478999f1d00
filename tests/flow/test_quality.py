"""`make quality`: what is replayed, what is said of what is not there, and a small run from end to end."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from balancer.core.errors import InvalidInput
from balancer.trace import SHIPPED
from benchmarks.quality import main
from benchmarks.quality_jobs import find, jobs_of
from benchmarks.quality_points import KINDS, Check, Point, Verdict
from benchmarks.quality_tables import compared, read_references, verdicts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with 40 tasks of one trace."""
    lines = gzip.decompress(SHIPPED.read_bytes()).decode().splitlines(keepends=True)
    (tmp_path / "copilot_short.csv").write_text("".join(lines[:41]))
    return tmp_path


def test_every_load_and_fleet_is_replayed_three_times(folder: Path) -> None:
    there, lacking = find(folder)

    assert [found.path.name for found in there] == ["copilot_short.csv"]
    assert lacking == [kind for kind in KINDS if kind != "copilot"]
    declared = list(jobs_of(there, learned=False, quick=False))
    assert len(declared) == 3 * 2 * 3
    assert all(job.strategies[:2] == ("fit", "fifo_pull") for job in declared)
    asked = {name for job in declared for name in job.strategies}
    assert {"best_match", "seed", "jsq", "po2", "early_random", "early_rr", "match_clair"} <= asked
    learned = list(jobs_of(there, learned=True, quick=True))
    assert [job.scenario.learned for job in learned].count(True) == 3 * 2
    assert [job.scenario for job in learned if not job.scenario.learned] == [
        declared[-4].scenario  # unlike agents at the highest load
    ]


def test_jira_is_flattened(tmp_path: Path) -> None:
    (tmp_path / "jira_x.csv.gz").touch()

    assert [found.blocks for found in find(tmp_path)[0]] == [24]


def test_a_quick_run_from_end_to_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = folder / "out.json"
    asked = ["quality", "--traces", str(folder), "--quick", "--workers", "1", "--json", str(kept)]
    monkeypatch.setattr(sys, "argv", asked)

    assert main() == 0

    out, err = capsys.readouterr()
    assert f"not in {folder}: azure, mooncake, alibaba, wfinstances, jira" in err
    assert "Mean flow / lower bound, specialists 1.5 times faster, load 0.95" in out
    assert "fit / fifo_pull, equal agents, load 0.6" in out
    assert "\nGoals\n" not in out
    report = json.loads(kept.read_text())
    assert len(report["cells"]) == 6
    assert {cell["tasks"] for cell in report["cells"]} == {40}

    reference = folder / "reference.json"
    reference.write_text(json.dumps(_as_reference(report["cells"])))
    monkeypatch.setattr(sys, "argv", [*asked, "--reference", str(reference)])
    assert main() == 0
    assert "0 of " in capsys.readouterr().out.splitlines()[-3]


def _as_reference(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Our own figures of one kind of fleet, under the other simulator's names."""
    return {
        str(cell["load"]): {
            "LB": {"mean_flow": cell["bound"]["mean_flow_s"]},
            "guard_hist": {"mean_flow": cell["strategies"]["fit"]["mean_flow_s"]},
        }
        for cell in cells
        if not cell["equal_agents"]
    }


def test_no_traces_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["quality", "--traces", str(tmp_path)])

    assert main() == 2
    assert "no trace to replay in" in capsys.readouterr().err


def test_a_reference_is_known_by_its_bound() -> None:
    point = Point("copilot_x", 0.8, False, {"fit": {"mean_flow_s": 110.0}}, {"mean_flow_s": 50.0})
    mine = {"0.8": {"LB": {"mean_flow": 50.001}, "guard_hist": {"mean_flow": 100.0}}}
    other = {"0.8": {"LB": {"mean_flow": 51.0}, "guard_hist": {"mean_flow": 500.0}}}

    said = compared([point], [other, mine])

    assert "fit | mean_flow_s | 110 | 100 | 1.100 | apart |" in said
    assert "1 of 2 mean flows" in said
    assert "none of its bounds is one of ours" in compared([point], [other])


@pytest.mark.parametrize("text", ["", "[]", '{"0.8": {}}', '{"0.8": {"LB": {"mean_flow": "x"}}}'])
def test_what_is_no_reference_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)

    with pytest.raises(InvalidInput, match=r"x\.json is none"):
        read_references([tmp_path])
    with pytest.raises(InvalidInput, match="cannot read"):
        read_references([tmp_path / "y.json"])


def test_goals_show_what_misses_them_else_what_is_nearest() -> None:
    found = [
        Verdict(1, "flow", [Check("a", 0.5, 0.8), Check("b", 0.7, 0.8)]),
        Verdict(2, "wait", [Check("a", 0.5, 0.8), Check("b", 0.9, 0.8), Check("c", None, 0.8)]),
        Verdict(3, "rank", [Check("a", 0.5, 0.4, at_least=True)]),
    ]

    lines = verdicts(found).splitlines()[-3:]

    assert lines == [
        "| 1 | flow | pass | b: 0.7 (<= 0.8) |",
        "| 2 | wait | short | b: 0.9 (<= 0.8); c: absent (<= 0.8) |",
        "| 3 | rank | pass | a: 0.5 (>= 0.4) |",
    ]
