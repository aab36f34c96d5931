"""The guard refuses what would make the probe a weapon, whatever the coordinator says, and says why."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
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
from probe.budgets import network_of
from probe.guard import Guard, GuardRule, Permit, Refusal
from probe.settings import GuardSettings
from tests.probe.jobs import OWN, OWN_V6, PREFIX, TARGET, TARGET_V6, job, prefix_job, settings
from tests.probe.virtual import EPOCH_NS, MS, S

DENIED = (ipaddress.ip_network("2a01:3f8::/32"),)


def judged(asked: Job, **limits: Any) -> Permit | Refusal:
    return Guard(settings(**{"deny_networks": DENIED, **limits})).admit(asked, EPOCH_NS)


@pytest.mark.parametrize(
    ("asked", "rule", "words"),
    [
        (job(vantage=VantageId("v2")), GuardRule.VANTAGE, "'v2': this probe is 'v1'"),
        (job(target=Target("10.0.0.1")), GuardRule.TARGET, "private use, RFC 1918"),
        (job(target=Target("127.0.0.1")), GuardRule.TARGET, "loopback"),
        (job(target=Target("2002:808:808::1"), source=OWN_V6), GuardRule.TARGET, "6to4"),
        (job(target=Target("2a01:3f7::5efe:909:909"), source=OWN_V6), GuardRule.TARGET, "ISATAP"),
        (prefix_job(target=Target("2a01:3f8::1"), source=PREFIX), GuardRule.TARGET, "in guard.deny_networks, 2a01:3f8"),
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
    spread = job("later", target=Target("9.9.9.6"), start_at_ns=EPOCH_NS + 3 * S + 101 * MS)
    assert isinstance(guard.admit(spread, EPOCH_NS), Permit)


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        (OWN, [f"9.9.9.{n}" for n in range(1, 6)]),
        (OWN_V6, [f"2a01:3f7::{n}" for n in range(1, 6)]),
        (OWN_V6, [f"2a01:3f7:0:{n}::1" for n in range(1, 6)]),
    ],
)
def test_neighbours_share_the_budget_of_their_network(source: str, targets: list[str]) -> None:
    guard = Guard(settings(network_packets_per_minute=4))
    *answers, last = [
        guard.admit(job(each, source=source, target=Target(each), start_at_ns=EPOCH_NS + n * S), EPOCH_NS)
        for n, each in enumerate(targets, 2)
    ]
    assert all(isinstance(each, Permit) for each in answers)
    assert isinstance(last, Refusal)
    assert last.rule is GuardRule.NETWORK_BUDGET
    assert "over 4 a minute to " in last.detail


def test_control_servers_are_asked_no_more_often_than_their_budget_allows_however_small_the_jobs() -> None:
    guard = Guard(settings(control_packets_per_second=3))
    answers = [guard.admit(job(f"j{n}", target=Target(f"9.9.{n}.9")), EPOCH_NS) for n in range(5)]
    assert [isinstance(each, Permit) for each in answers] == [True] * 3 + [False] * 2
    assert isinstance(answers[3], Refusal)
    assert answers[3].rule is GuardRule.CONTROL_BUDGET
    for each in answers[:3]:
        assert isinstance(each, Permit)
        guard.withdraw(each)  # a wrong clock, found by asking: that has been sent
    assert isinstance(guard.admit(job("again", target=Target("9.9.9.9")), EPOCH_NS), Refusal)


def test_the_probes_own_addresses_are_targets_only_where_an_operator_allowed_them() -> None:
    own = replace(settings(), ipv4="45.1.1.1", ipv6_prefix=ipaddress.IPv6Network("2a01:3f9::/64"))
    for source, target in (("45.1.1.1", "45.1.1.1"), ("2a01:3f9::/64", "2a01:3f9::77")):
        asked = job(source=source, target=Target(target))
        answer = Guard(own).admit(asked, EPOCH_NS)
        assert isinstance(answer, Refusal)
        assert answer.detail == f"target {target}: this probe's own address"
        allowed = replace(own, guard=GuardSettings(allow_networks=(ipaddress.ip_network(f"{target}"),)))
        assert isinstance(Guard(allowed).admit(asked, EPOCH_NS), Permit)


def test_a_new_process_knows_what_the_last_one_may_have_sent() -> None:
    guard = Guard(settings(target_packets_per_minute=9))
    asked = job("a", offsets_s=tuple(2.1 * n for n in range(8)))
    permit = guard.admit(asked, EPOCH_NS)
    assert isinstance(permit, Permit)
    killed_at_ns = asked.start_at_ns + 12 * S
    reborn = Guard(settings(target_packets_per_minute=9))
    reborn.recall(permit, killed_at_ns)
    again = replace(asked, id=JobId("b"), start_at_ns=killed_at_ns + S)
    answer = reborn.admit(again, killed_at_ns)
    assert isinstance(answer, Refusal)
    assert answer.rule is GuardRule.PACE
    series = prefix_job("c", offsets_s=tuple(2.1 * n for n in range(4)), start_at_ns=killed_at_ns + S)
    other = replace(series, source=OWN, target=asked.target, start_at_ns=killed_at_ns + 20 * S)
    late = reborn.admit(other, killed_at_ns)
    assert isinstance(late, Refusal)
    # Six of the eight were sent before it died; three more have room, once the series is paid back.
    three = replace(other, steps=tuple(Step(ExchangeKind.CLIENT_V4, n * 8 * S) for n in range(3)))
    assert isinstance(reborn.admit(three, killed_at_ns), Permit)


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


SOURCES = st.sampled_from([OWN, OWN_V6, PREFIX, "2001:db8:7::5", "2001:db8:7:0:1::/80", "192.0.2.8", "::/0"])
TARGETS = st.one_of(
    st.sampled_from([TARGET, "9.9.9.10", "9.9.8.1", TARGET_V6, "2a01:3f7:0:1::9", "10.0.0.1", "::1", OWN]),
    st.integers(0, 2**32 - 1).map(lambda number: str(ipaddress.IPv4Address(number))),
)
MOMENTS = st.integers(0, 4 * 4).map(lambda number: number * S // 4)


@st.composite
def decent(draw: st.DrawFn) -> Job:
    """A short series to one of a few neighbours: what no rule but a budget or the pace refuses."""
    source, target = draw(
        st.sampled_from(
            [(OWN, TARGET), (OWN, "9.9.9.10"), (OWN_V6, TARGET_V6), (PREFIX, TARGET_V6), (PREFIX, "2a01:3f7::10")]
        )
    )
    return job(
        str(draw(st.integers(0, 999))),
        source=source,
        target=Target(target),
        start_at_ns=EPOCH_NS + draw(MOMENTS),
        offsets_s=tuple(2 * n for n in range(draw(st.integers(1, 6)))),
    )


@st.composite
def anything(draw: st.DrawFn) -> Job:
    """Whatever a coordinator can put on the wire."""
    offsets = draw(st.lists(st.one_of(MOMENTS, st.integers(-S, 2_000 * S)), max_size=12))
    return Job(
        id=JobId(draw(st.sampled_from("abcdef"))),
        verification=VerificationId("w"),
        vantage=VantageId(draw(st.sampled_from(["v1", "v1", "v1", "v2"]))),
        target=Target(draw(TARGETS), draw(st.sampled_from([123, 123, 123, 53, 1, 65_535]))),
        source=draw(SOURCES),
        start_at_ns=EPOCH_NS + draw(st.one_of(MOMENTS, st.integers(-EPOCH_NS, 2**62))),
        steps=tuple(
            Step(ExchangeKind.CLIENT_V4, each, draw(st.integers(0, 3)))
            for each in (sorted(offsets) if draw(st.booleans()) else offsets)
        ),
        timeout_ns=draw(st.one_of(st.just(S), st.integers(-S, 20 * S))),
        linger_ns=draw(st.one_of(st.just(0), st.integers(-S, 100 * S))),
    )


ASKED = st.tuples(
    st.one_of(decent(), decent(), anything()),
    st.sampled_from(["finish", "finish", "withdraw", "keep", "restart"]),
    st.sampled_from([0, 0, 1, 5]),
)


@given(st.lists(ASKED, min_size=10, max_size=40))
def test_nothing_that_is_permitted_breaks_a_rule_whatever_is_asked_and_however_often_it_restarts(
    asked: list[tuple[Job, str, int]],
) -> None:
    limits: dict[str, Any] = {
        "target_packets_per_minute": 5,
        "network_packets_per_minute": 7,
        "packets_per_second": 4,
        "control_packets_per_second": 9,
    }
    guard, now, kept, sent = Guard(settings(**limits)), EPOCH_NS, list[Permit](), list[tuple[Job, int]]()
    for wanted, then, wait_s in asked:
        now += wait_s * S
        each = replace(wanted, start_at_ns=wanted.start_at_ns + now - EPOCH_NS)
        if then == "restart":  # whatever was under way died with the process: only what was due has left
            guard = Guard(settings(**limits))
            sent = [(job, at_ns) for job, at_ns in sent if at_ns <= now]
            for permit in kept:
                guard.recall(permit, now)
        answer = guard.admit(each, now)
        if isinstance(answer, Refusal):
            assert answer.detail
            continue
        if then == "withdraw":
            guard.withdraw(answer)
            continue
        if then == "finish":
            guard.finish(answer)
        kept.append(answer)
        sent += [(each, at_ns) for at_ns in answer.times]
        assert special_purpose(each.target.address) is None
        assert (each.target.port, each.vantage) == (123, "v1")
        assert each.source in (OWN, OWN_V6) or ipaddress.IPv6Network(each.source).subnet_of(
            ipaddress.IPv6Network(PREFIX)
        )
        assert 1 <= len(each.steps) <= MAX_STEPS
        assert max(answer.times) + each.timeout_ns + each.linger_ns <= now + 1_500 * S
    for _, at_ns in sent:
        assert sum(at_ns <= other < at_ns + S for _, other in sent) <= 4
        minute = [job.target.address for job, other in sent if at_ns <= other < at_ns + 60 * S]
        networks = [network_of(address) for address in minute]
        assert all(minute.count(address) <= 5 for address in minute)
        assert all(networks.count(network) <= 7 for network in networks)
