"""How fast the probe may ask: budgets over windows, and the spacing that no known daemon takes for abuse.

Daemons limit the rate of each source address (docs: rate limits were measured on real ones): 8 s sustained is never
refused, nor is a short series of up to 8 exchanges at 2 s. Both are one rule here, the generic cell rate algorithm
(ITU-T I.371) with one packet per 8 s and a tolerance of exactly the credit that 8 packets at 2 s need; a series once
spent comes back only through longer pauses.

Packets are *planned*: a job's send times are known when it is leased, up to minutes ahead, so everything here works on
lists of times and never asks what time it is. Sources inside the probe's prefix count as one, because a target may
limit by prefix. One *burst* per job is let through: some exchanges from a single address of the prefix in quick
succession, by which the baseline finds out whether the target limits by prefix.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from poolproof.job import Job

SECOND_NS = 1_000_000_000
MIN_SPACING_NS = 2 * SECOND_NS
SUSTAINED_SPACING_NS = 8 * SECOND_NS
SERIES = 8
_CREDIT_NS = (SERIES - 1) * (SUSTAINED_SPACING_NS - MIN_SPACING_NS)
BURST_SPACING_NS = SECOND_NS // 5
BURST = 8
BURST_NEIGHBOURS = 2
"""Exchanges from other addresses of the prefix that may stand close to a burst: what it must not silence."""


class WindowBudget:
    """At most so many packets in any window of a given length, for each key."""

    def __init__(self, limit: int, window_ns: int) -> None:
        """Args: limit: packets. window_ns: length of the sliding window."""
        self._limit = limit
        self._window_ns = window_ns
        self._planned: dict[Hashable, list[int]] = {}

    def fits(self, key: Hashable, times: Sequence[int]) -> bool:
        """Whether the times, sorted, fit beside what is planned already."""
        planned = self._planned.get(key, [])
        return all(self._fits(time_ns, planned, times) for time_ns in times)

    def _fits(self, time_ns: int, planned: Sequence[int], times: Sequence[int]) -> bool:
        """Whether the windows that hold one of the times have room: only what is near, however much is planned."""
        low, high = time_ns - self._window_ns, time_ns + self._window_ns
        near = sorted(
            at_ns for each in (planned, times) for at_ns in each[bisect_right(each, low) : bisect_left(each, high)]
        )
        return all(
            later - earlier >= self._window_ns for earlier, later in zip(near, near[self._limit :], strict=False)
        )

    def plan(self, key: Hashable, times: Sequence[int]) -> None:
        """Count the times."""
        planned = self._planned.setdefault(key, [])
        for time_ns in times:
            insort(planned, time_ns)

    def unplan(self, key: Hashable, times: Sequence[int]) -> None:
        """Take back times whose packets were never sent; those already forgotten are no matter."""
        planned = self._planned.get(key, [])
        for time_ns in times:
            at = bisect_left(planned, time_ns)
            if planned[at : at + 1] == [time_ns]:
                del planned[at]

    def forget(self, now_ns: int) -> None:
        """Drop what can no longer share a window with anything sent from now on."""
        for key, planned in list(self._planned.items()):
            del planned[: bisect_left(planned, now_ns - self._window_ns)]
            if not planned:
                del self._planned[key]

    def __len__(self) -> int:
        return len(self._planned)


@dataclass(slots=True)
class _Pair:
    """What one target saw of one source: the rate algorithm's state, and what is planned after it."""

    due_ns: int = 0
    """When the next packet would be due at the sustained rate (the algorithm's theoretical arrival time)."""
    last_ns: int | None = None
    planned: list[int] = field(default_factory=list)


class Pace:
    """Spacing of packets for each pair of source and target address."""

    def __init__(self) -> None:
        self._pairs: dict[Hashable, _Pair] = {}

    def refuses(self, key: Hashable, times: Sequence[int]) -> str | None:
        """Why the times, sorted, may not be sent beside what is planned already; None if they may."""
        pair = self._pairs.get(key, _Pair())
        due_ns, last_ns = pair.due_ns, pair.last_ns
        for time_ns in sorted([*pair.planned, *times]):
            if last_ns is not None and time_ns - last_ns < MIN_SPACING_NS:
                return f"{_seconds(time_ns - last_ns)} after the packet before; at least {_seconds(MIN_SPACING_NS)}"
            if time_ns < due_ns - _CREDIT_NS:
                wait = _seconds(due_ns - _CREDIT_NS - time_ns)
                return (
                    f"a packet comes {wait} too early; after a series of {SERIES} at {_seconds(MIN_SPACING_NS)}"
                    f" at least {_seconds(SUSTAINED_SPACING_NS)} between packets"
                )
            due_ns, last_ns = max(time_ns, due_ns) + SUSTAINED_SPACING_NS, time_ns
        return None

    def plan(self, key: Hashable, times: Sequence[int]) -> None:
        """Count the times."""
        pair = self._pairs.setdefault(key, _Pair())
        for time_ns in times:
            insort(pair.planned, time_ns)

    def unplan(self, key: Hashable, times: Sequence[int]) -> None:
        """Take back times whose packets were never sent; those already folded into the past stay counted."""
        pair = self._pairs.get(key)
        if pair is not None:
            pair.planned = [time_ns for time_ns in pair.planned if time_ns not in times]

    def forget(self, now_ns: int) -> None:
        """Fold packets of the past into the algorithm's state, and drop pairs that have all their credit back."""
        for key, pair in list(self._pairs.items()):
            past = bisect_left(pair.planned, now_ns - MIN_SPACING_NS)
            for time_ns in pair.planned[:past]:
                pair.due_ns, pair.last_ns = max(time_ns, pair.due_ns) + SUSTAINED_SPACING_NS, time_ns
            del pair.planned[:past]
            if not pair.planned and pair.due_ns <= now_ns:
                del self._pairs[key]

    def __len__(self) -> int:
        return len(self._pairs)


def paced_times(job: Job) -> tuple[int, ...] | str:
    """The send times of a job that the pace applies to: all but those of its one burst. Or why its burst is none.

    A burst is a run of steps less than 2 s apart, at least 200 ms, of a job whose source is a prefix: up to 8 in one
    source slot, and up to two in other slots beside them. Two steps from two parts of the prefix are one question,
    asked twice at almost the same time, and count as one.
    """
    times = [job.start_at_ns + step.offset_ns for step in job.steps]
    if _is_pair(job):
        return (times[0],)
    runs: list[list[int]] = []
    for index, time_ns in enumerate(times):
        if index and time_ns - times[index - 1] < MIN_SPACING_NS:
            runs[-1].append(index)
        else:
            runs.append([index])
    bursts = [run for run in runs if len(run) > 1]
    if not bursts:
        return tuple(times)
    if "/" not in job.source:
        first = bursts[0][0]
        gap = _seconds(times[first + 1] - times[first])
        return f"steps {first} and {first + 1} are {gap} apart; at least {_seconds(MIN_SPACING_NS)} from one address"
    if len(bursts) > 1:
        return f"steps {bursts[0][0]} and {bursts[1][0]} both begin a burst; one burst a job"
    problem = _burst_problem(job, bursts[0])
    return problem or tuple(times[run[0]] for run in runs if len(run) == 1)


def _is_pair(job: Job) -> bool:
    """A job of two steps, each from a part of the prefix of its own."""
    parts = {step.source for step in job.steps}
    return len(job.steps) == len(parts) == 2 and "" not in parts


def _burst_problem(job: Job, run: Sequence[int]) -> str | None:
    steps = [job.steps[index] for index in run]
    for index, earlier, later in zip(run, steps, steps[1:], strict=False):
        if later.offset_ns - earlier.offset_ns < BURST_SPACING_NS:
            gap = _seconds(later.offset_ns - earlier.offset_ns)
            return f"steps {index} and {index + 1} are {gap} apart; a burst has at least {_seconds(BURST_SPACING_NS)}"
    slots = [step.source_slot for step in steps]
    longest = max(slots.count(slot) for slot in slots)
    if longest > BURST:
        return f"a burst of {longest} from one address; at most {BURST}"
    if len(slots) - longest > BURST_NEIGHBOURS:
        return f"{len(slots) - longest} steps of other addresses in a burst; at most {BURST_NEIGHBOURS}"
    return None


def _seconds(duration_ns: int) -> str:
    return f"{duration_ns / SECOND_NS:g} s"
