"""Which figures have a goal, and what the table calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        figure: its key among the figures.
        what: for people.
        unit: of the value; empty for a ratio.
        goal: to be reached, or None.
        at_most: whether the goal is an upper bound.
    """

    figure: str
    what: str
    unit: str = ""
    goal: float | None = None
    at_most: bool = False

    def reached(self, value: float) -> bool | None:
        """Whether the goal is reached; None without one."""
        if self.goal is None:
            return None
        return value <= self.goal if self.at_most else value >= self.goal


def _dispatch(size: int) -> tuple[Row, ...]:
    agents = f"{size:,} agents"
    return (
        Row(f"ratio_to_echo_{size}", f"dispatch to {agents} / raw grpc.aio echo", goal=0.7),
        Row(f"jobs_per_s_{size}", f"dispatch to {agents}", "jobs/s"),
        Row(f"echo_jobs_per_s_{size}", f"raw echo to {agents}", "jobs/s"),
        Row(f"latency_p99_ms_{size}", f"handed out to received, {agents}, p99", "ms"),
        Row(f"echo_latency_p99_ms_{size}", f"raw echo, {agents}, p99", "ms"),
        Row(f"kb_per_agent_{size}", f"coordinator's memory, {agents}", "kB/agent", 60.0, at_most=True),
    )


ROWS: Mapping[str, tuple[Row, ...]] = {
    "decide": (Row("decide_10x12_us", "decide, 10 perspectives x 12 rounds", "µs", 100.0, at_most=True),),
    "dispatch": (*_dispatch(100), *_dispatch(1_000)),
    "skew": (
        Row("skew_p99_ms", "start skew of 12 probes, p99", "ms", 20.0, at_most=True),
        Row("skew_p50_ms", "start skew of 12 probes, median", "ms"),
        Row("skew_max_ms", "start skew of 12 probes, worst", "ms"),
        Row("rounds_complete", "rounds in which all 12 sent, of 210", "rounds", 210.0),
    ),
    "engine": (
        Row("ratio_sweep_to_ntplib", "probe's shared socket / ntplib one by one", goal=6.0),
        Row("ratio_sweep_to_c", "probe's shared socket / C sendmmsg loop", goal=0.6),
        Row("ratio_exchange_to_ntplib", "probe's exchange sockets / ntplib one by one", goal=1.3),
        Row("sweep_per_s", "probe's shared socket", "exchanges/s"),
        Row("exchange_per_s", "probe's exchange sockets", "exchanges/s"),
        Row("ntplib_per_s", "ntplib one by one", "exchanges/s"),
        Row("c_per_s", "C sendmmsg loop", "exchanges/s"),
        Row("exchange_cpu_us", "probe's exchange sockets, CPU each", "µs"),
        Row("ntplib_cpu_us", "ntplib one by one, CPU each", "µs"),
    ),
    "store": (
        Row("ratio_to_raw_sqlite", "store commits, 64 callers / raw SQLite"),
        Row("commits_64_callers_per_s", "store commits, 64 callers", "commits/s"),
        Row("commit_64_callers_p99_ms", "store commit, 64 callers, p99", "ms"),
    ),
}
"""The table, by bench."""
