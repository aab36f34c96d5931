"""The table of what a probe refuses, in docs/threat-model.md, against the guard's rules and limits."""

from __future__ import annotations

from poolproof.job import MAX_STEPS
from probe.guard import GuardRule
from probe.settings import GuardSettings
from tests.docs.pages import rows, section, text, word

TABLE = rows(section(text("docs/threat-model.md"), "## What a probe refuses"))
SECOND_NS = 1_000_000_000


def test_every_rule_of_the_guard_is_in_the_table_and_no_other() -> None:
    listed = [word(cells[2]) for cells in TABLE if cells[2]]
    assert sorted(listed) == sorted(["invalid", *(rule.value for rule in GuardRule)])


def test_the_limits_are_those_of_the_code() -> None:
    limits = GuardSettings()
    told = {word(cells[2]): cells[0] for cells in TABLE if cells[2]}
    for rule, words in {
        GuardRule.STEPS: f"more than {MAX_STEPS},",
        GuardRule.START: f"more than {limits.max_start_ahead_ns // (60 * SECOND_NS)} minutes ahead",
        GuardRule.DURATION: f"more than {limits.max_timeout_ns // SECOND_NS} s of timeout,"
        f" {limits.max_linger_ns // SECOND_NS} s of linger, {limits.max_duration_ns // (60 * SECOND_NS)} minutes in",
        GuardRule.JOBS: f"more than {limits.max_jobs} jobs",
        GuardRule.WATCH: f"more than {limits.max_watch_ns // (3600 * SECOND_NS)} hours",
        GuardRule.TARGET_BUDGET: f"more than {limits.target_packets_per_minute} packets a minute",
        GuardRule.NETWORK_BUDGET: f"more than {limits.network_packets_per_minute} packets a minute",
        GuardRule.BUDGET: f"more than {limits.packets_per_second} packets a second",
        GuardRule.CONTROL_BUDGET: f"more than {limits.control_packets_per_second} packets a second",
    }.items():
        assert words in told[rule.value]
    assert any(f"more than {limits.jobs_per_minute:,} jobs a minute" in cells[0] for cells in TABLE)
