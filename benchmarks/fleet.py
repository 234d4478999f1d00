"""The work and the agents that the benchmarks use: 3 roles, 12 lanes, 12 classes, mixed sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice

from balancer.core.model import Priority, Task
from balancer.core.names import new_nonce
from balancer.core.planner import Planner, Proposal
from balancer.ledger import beat, commit, settle, submit
from balancer.ledger.pool import Pool
from balancer.ledger.view import Viewer
from balancer.protocol import Completion, Heartbeat, Status

CATEGORIES: dict[str, tuple[str, ...]] = {
    "dev": ("feature", "bug", "refactoring", "documentation"),
    "ops": ("infrastructure", "migration", "security", "performance"),
    "qa": ("testing", "review", "triage", "ux_design"),
}
LANES = [(role, category) for role, own in CATEGORIES.items() for category in own]
#: Specializations (which of the role's categories) and units: 5.5 units on average.
PROFILES: list[tuple[slice, int]] = [
    (slice(0, 0), 2),
    (slice(0, 1), 4),
    (slice(1, 3), 6),
    (slice(3, 4), 10),
]
PRIORITIES = (Priority.MEDIUM, Priority.MEDIUM, Priority.HIGH, Priority.LOW)
PAYLOAD = "x" * 100
#: One heartbeat lasts for a whole run: fresh for ten minutes.
INTERVAL_MS, TTL_MS = 420_000, 899_000


def tasks(role: str | None = None, estimate_s: float | None = None) -> Iterator[Task]:
    """Tasks without end, over all lanes in turn; of the sizes of their categories, or all of one."""
    lanes = [lane for lane in LANES if role in (None, lane[0])]
    for i in count():
        own, category = lanes[i % len(lanes)]
        priority = PRIORITIES[i // len(lanes) % len(PRIORITIES)]
        yield Task(
            role=own, category=category, priority=priority, payload=PAYLOAD, estimate_s=estimate_s
        )


def fill(pool: Pool, n: int, role: str | None = None, estimate_s: float | None = None) -> None:
    """Submit n tasks."""
    source = tasks(role, estimate_s)
    while n > 0:
        page = list(islice(source, min(n, 2_000)))
        submit.submit(pool, page)
        n -= len(page)


def agent(
    name: str, units: int, role: str = "dev", special: tuple[str, ...] = (), start: bool = False
) -> Heartbeat:
    """An agent's first heartbeat."""
    return Heartbeat(
        agent=name,
        boot=new_nonce(),
        seq=1,
        role=role,
        max_concurrent=units,
        specializations=special,
        interval_ms=INTERVAL_MS,
        ttl_ms=TTL_MS,
        start=start,
    )


def heartbeat(number: int) -> Heartbeat:
    """The heartbeat of the fleet's agent of this number."""
    role = list(CATEGORIES)[number % len(CATEGORIES)]
    special, units = PROFILES[number // len(CATEGORIES) % len(PROFILES)]
    return agent(f"agent-{number}", units, role, CATEGORIES[role][special])


def join(pool: Pool, beats: Sequence[Heartbeat]) -> None:
    """Bring agents into the pool, past the stream."""
    for at in range(0, len(beats), beat.CAP):
        page = beats[at : at + beat.CAP]
        entries = [beat.BeatEntry(f"{at + i + 1}-0", item) for i, item in enumerate(page)]
        beat.beat(pool, _as_of_now(pool, entries), caught_up=True)


def _as_of_now(pool: Pool, entries: list[beat.BeatEntry]) -> list[beat.BeatEntry]:
    """Entry ids carry the time of a heartbeat."""
    now = pool.client.time()
    ms = int(now[0]) * 1000 + int(now[1]) // 1000
    return [entry._replace(entry=f"{ms}-{i}") for i, entry in enumerate(entries)]


def assign(pool: Pool, n: int) -> list[Proposal]:
    """Assign n waiting tasks, the drainer's way."""
    viewer, planner = Viewer(pool), Planner(pool.settings)
    granted: list[Proposal] = []
    while len(granted) < n:
        proposals = planner.plan(viewer.view(), min(128, n - len(granted)))
        answers = commit.commit(pool, proposals)
        now = [p for p, a in zip(proposals, answers, strict=True) if a.outcome == "assigned"]
        if not now:
            raise RuntimeError(f"only {len(granted)} of {n} tasks found an agent")
        granted += now
    return granted


def completion(lease: Proposal, status: Status = Status.COMPLETED, attempt: int = 1) -> Completion:
    """What the agent says when it has done the task."""
    return Completion(
        agent=lease.agent,
        task=lease.task,
        attempt=attempt,
        lease=lease.nonce,
        status=status,
        result='{"ok":true}',
        duration_ms=1,
    )


def finish(pool: Pool, leases: Sequence[Proposal]) -> None:
    """Complete leases past the stream, to free their units."""
    for at in range(0, len(leases), settle.CAP):
        page = leases[at : at + settle.CAP]
        settle.settle(pool, [settle.CompletionEntry("1-1", completion(lease)) for lease in page])
