"""The guard refuses what would make the probe a weapon, whatever the coordinator says, and says why."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.cohort import Candidate
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Rir, Vantage
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import MAX_STEPS, Job, Step
from poolproof.plan import PAIR_SPACING_NS, baseline_ends_ns, baseline_jobs
from poolproof.policy import POLICY_2026_11
from poolproof.special_purpose import special_purpose
from poolproof.target import Target, halves
from probe.guard import Guard, GuardRule, Permit, Refusal
from tests.probe.jobs import OWN, OWN_V6, PREFIX, TARGET, TARGET_V6, job, prefix_job, settings
from tests.probe.virtual import EPOCH_NS, MS, S


def judged(asked: Job, **limits: Any) -> Permit | Refusal:
    return Guard(settings(**limits)).admit(asked, EPOCH_NS)


@pytest.mark.parametrize(
    ("asked", "rule", "words"),
    [
        (job(vantage=VantageId("v2")), GuardRule.VANTAGE, "'v2': this probe is 'v1'"),
        (job(target=Target("10.0.0.1")), GuardRule.TARGET, "private use, RFC 1918"),
        (job(target=Target("127.0.0.1")), GuardRule.TARGET, "loopback"),
        (job(target=Target("2002:808:808::1"), source=OWN_V6), GuardRule.TARGET, "6to4"),
        (job(target=Target(TARGET, 53)), GuardRule.PORT, "port 53: guard.allow_ports are 123"),
        (job(source="192.0.2.8"), GuardRule.SOURCE, "'192.0.2.8': not this probe's own"),
        (job(source=OWN_V6), GuardRule.SOURCE, "not this probe's own for IPV4"),
        (job(target=Target(TARGET_V6)), GuardRule.SOURCE, "not this probe's own for IPV6"),
        (prefix_job(source="2001:db8::/32"), GuardRule.SOURCE, "'2001:db8::/32'"),
        (prefix_job(source="2001:db8:7::/120"), GuardRule.SOURCE, "'2001:db8:7::/120'"),
        (prefix_job(source="2001:db8:8::1"), GuardRule.SOURCE, "'2001:db8:8::1'"),
        (prefix_job(source="nonsense"), GuardRule.SOURCE, "'nonsense'"),
        (job(steps=()), GuardRule.STEPS, "steps: 0; 1 to 64"),
        (job(offsets_s=tuple(8 * n for n in range(MAX_STEPS + 1))), GuardRule.STEPS, "65; 1 to 64"),
        (job(offsets_s=(8, 0)), GuardRule.STEPS, "in order"),
        (job(offsets_s=(-1, 8)), GuardRule.STEPS, "none below 0"),
        (job(start_at_ns=EPOCH_NS + 601 * S), GuardRule.START, "guard.max_start_ahead_ns is 600000000000"),
        (job(timeout_ns=11 * S), GuardRule.DURATION, "timeout_ns: 11000000000; 1 to guard.max_timeout_ns"),
        (job(timeout_ns=0), GuardRule.DURATION, "timeout_ns: 0"),
        (job(linger_ns=61 * S), GuardRule.DURATION, "linger_ns"),
        (job(offsets_s=(0, 899)), GuardRule.DURATION, "duration_ns: 902000000000"),
        (job(watch_until_ns=EPOCH_NS + 288_001 * S), GuardRule.WATCH, "guard.max_watch_ns is 288000000000000"),
        (
            prefix_job(steps=(Step(ExchangeKind.CLIENT_V4, 0, 0, "2001:db8:8::/65"),)),
            GuardRule.SOURCE,
            "steps[0].source",
        ),
        (
            prefix_job(steps=(Step(ExchangeKind.CLIENT_V4, 0, 0, "2001:db8:7::/113"),)),
            GuardRule.SOURCE,
            "/112 or shorter",
        ),
        (prefix_job(steps=(Step(ExchangeKind.CLIENT_V4, 0, 0, "2001:db8:7::1"),)), GuardRule.SOURCE, "not a part of"),
        (job(steps=(Step(ExchangeKind.CLIENT_V4, 0, 0, "2001:db8:7::/65"),)), GuardRule.SOURCE, "not a part of"),
        (job(offsets_s=(0, 1)), GuardRule.PACE, "steps 0 and 1 are 1 s apart"),
    ],
)
def test_each_rule_refuses_and_names_field_value_and_limit(asked: Job, rule: GuardRule, words: str) -> None:
    answer = judged(asked)
    assert isinstance(answer, Refusal)
    assert answer.rule is rule
    assert words in answer.detail


@pytest.mark.parametrize(
    "asked",
    [
        job(),
        job(offsets_s=tuple(2.1 * n for n in range(8))),
        job(offsets_s=tuple(8 * n for n in range(MAX_STEPS))),
        job(source=OWN_V6, target=Target(TARGET_V6)),
        prefix_job(source="2001:db8:7::abc"),
        prefix_job(source="2001:db8:7::/96"),
        job(start_at_ns=EPOCH_NS + 600 * S),
        job(watch_until_ns=EPOCH_NS + 288_000 * S),
        job(watch_until_ns=1),
    ],
)
def test_decent_work_is_permitted(asked: Job) -> None:
    assert isinstance(judged(asked), Permit)


def test_an_operator_can_allow_a_lab_and_a_port() -> None:
    lab = job(target=Target("127.0.0.77", 11123))
    allowed = {"allow_networks": (ipaddress.ip_network("127.0.0.0/8"),), "allow_ports": frozenset({11123})}
    assert isinstance(judged(lab), Refusal)
    assert isinstance(judged(lab, **allowed), Permit)


@given(
    st.one_of(
        st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address), st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
    )
)
def test_no_special_purpose_target_ever_passes(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return
    answer = judged(job(target=Target(str(address)), source=OWN_V6 if address.version == 6 else OWN))
    assert isinstance(answer, Permit) == (special_purpose(str(address)) is None)


def test_the_whole_course_of_a_verification_by_policy_is_permitted() -> None:
    """The baseline with the prefix's burst, rounds as soon as they may follow, and another attempt."""
    policy = POLICY_2026_11
    vantage = Vantage(VantageId("v1"), OWN, OWN_V6, PREFIX, 64500, Rir.RIPE)
    for source, target in (("192.0.2.7", TARGET), (PREFIX, TARGET_V6)):
        guard, start = Guard(settings()), EPOCH_NS + 2 * S
        for attempt in range(3):
            candidate = Candidate(vantage, source)
            jobs = list(baseline_jobs(VerificationId("w"), attempt, Target(target), [candidate], start, policy))
            first = max(baseline_ends_ns(start, policy) - policy.report_grace_ns, start + 22 * S)
            asked = [Step(ExchangeKind.CLIENT_V4, 0)]
            if parts := halves(source) if "/" in source else None:
                asked = [Step(ExchangeKind.CLIENT_V4, n * PAIR_SPACING_NS, n, part) for n, part in enumerate(parts)]
            for number in range(policy.max_rounds):
                at_ns = first + number * policy.round_spacing_ns
                name = f"{attempt}/{number}"
                jobs.append(job(name, source=source, target=Target(target), start_at_ns=at_ns, steps=tuple(asked)))
            for each in jobs:
                answer = guard.admit(each, each.start_at_ns - 2 * S)
                assert isinstance(answer, Permit), (source, each.id, answer)
                guard.finish(answer)
            start = jobs[-1].start_at_ns + policy.retry_spacing_ns


def test_sources_of_the_prefix_count_as_one() -> None:
    guard = Guard(settings())
    assert isinstance(guard.admit(prefix_job("a", source=PREFIX), EPOCH_NS), Permit)
    answer = guard.admit(prefix_job("b", source="2001:db8:7::5", start_at_ns=EPOCH_NS + 3 * S), EPOCH_NS)
    assert isinstance(answer, Refusal)
    assert answer.rule is GuardRule.PACE
    # The same address outside the prefix is another to the target.
    other = prefix_job("c", source=OWN_V6, start_at_ns=EPOCH_NS + 3 * S)
    assert isinstance(guard.admit(other, EPOCH_NS), Permit)


def test_a_target_gets_no_more_than_its_budget_over_all_sources() -> None:
    guard = Guard(settings(target_packets_per_minute=9))
    series = tuple(2.1 * n for n in range(6))
    assert isinstance(guard.admit(prefix_job("a", offsets_s=series), EPOCH_NS), Permit)
    answer = guard.admit(prefix_job("b", offsets_s=series, source=OWN_V6), EPOCH_NS)
    assert isinstance(answer, Refusal)
    assert answer.rule is GuardRule.TARGET_BUDGET
    assert "over 9 a minute" in answer.detail


def test_all_targets_together_get_no_more_than_the_probes_budget() -> None:
    guard = Guard(settings(packets_per_second=5))
    answers = [guard.admit(job(f"j{n}", target=Target(f"9.9.9.{n}")), EPOCH_NS) for n in range(1, 7)]
    assert [isinstance(answer, Permit) for answer in answers] == [True] * 5 + [False]
    last = answers[-1]
    assert isinstance(last, Refusal)
    assert last.rule is GuardRule.BUDGET
    spread = job("later", target=Target("9.9.9.6"), start_at_ns=EPOCH_NS + 3 * S + MS)
    assert isinstance(guard.admit(spread, EPOCH_NS), Permit)


def test_jobs_under_way_are_limited_until_they_finish() -> None:
    guard = Guard(settings(max_jobs=1))
    first = guard.admit(job("a"), EPOCH_NS)
    assert isinstance(first, Permit)
    second = guard.admit(job("b", target=Target("9.9.9.10")), EPOCH_NS)
    assert isinstance(second, Refusal)
    assert second.rule is GuardRule.JOBS
    guard.finish(first)
    assert isinstance(guard.admit(job("b", target=Target("9.9.9.10")), EPOCH_NS), Permit)


def test_a_withdrawn_permit_leaves_no_trace_and_a_finished_one_does() -> None:
    guard = Guard(settings())
    first = guard.admit(job("a"), EPOCH_NS)
    assert isinstance(first, Permit)
    guard.withdraw(first)
    again = guard.admit(job("b"), EPOCH_NS)
    assert isinstance(again, Permit)
    guard.finish(again)
    assert isinstance(guard.admit(job("c"), EPOCH_NS), Refusal)


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 4), st.integers(0, 120), st.integers(0, 40)),
        min_size=1,
        max_size=60,
    )
)
def test_whatever_is_asked_the_budgets_hold(asked: list[tuple[int, int, int, int]]) -> None:
    guard = Guard(settings(target_packets_per_minute=12, packets_per_second=4))
    sent = list[tuple[str, int]]()
    now = EPOCH_NS
    for number, (wait_s, host, ahead_s, packets) in enumerate(asked):
        now += wait_s * S
        each = Job(
            JobId(str(number)), VerificationId("w"), VantageId("v1"), Target(f"9.9.9.{host}"), "192.0.2.7",
            now + ahead_s * S, tuple(Step(ExchangeKind.CLIENT_V4, n * 2 * S) for n in range(packets)), S, 0,
        )  # fmt: skip
        answer = guard.admit(each, now)
        if isinstance(answer, Permit):
            guard.finish(answer)
            sent += [(answer.target, at_ns) for at_ns in answer.times]
    for target, at_ns in sent:
        assert sum(at_ns <= other < at_ns + S for _, other in sent) <= 4
        assert sum(to == target and at_ns <= other < at_ns + 60 * S for to, other in sent) <= 12
