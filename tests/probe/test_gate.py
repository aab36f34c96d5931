"""Nothing leaves the probe that finds no room, whatever was planned and whatever held it up."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.exchange import ExchangeKind, LocalFault
from poolproof.ntp import client_request
from poolproof.target import Target
from probe.budgets import network_of
from probe.gate import QUIET_NS, Gate
from probe.guard import Guard, Permit
from probe.udp import UdpEngine
from tests.probe.jobs import CONTROL, CONTROL_V6, TARGET, TARGET_V6, job, settings
from tests.probe.udp_peers import answer_to, answering, server
from tests.probe.virtual import EPOCH_NS, MS, S


@dataclass
class Ticking:
    """A monotonic clock that a test sets."""

    at_ns: int = 1_000 * S

    def __call__(self) -> int:
        return self.at_ns


def gate(clock: Ticking | None = None, **limits: Any) -> Gate:
    return Gate(settings(**limits), now_ns=clock or Ticking())


@pytest.mark.parametrize(
    ("limits", "targets", "let_out", "words"),
    [
        (
            {"target_packets_per_minute": 3},
            [TARGET] * 5,
            3,
            "target-budget: target 9.9.9.9: with 1 more packets over 3",
        ),
        ({"network_packets_per_minute": 4}, [f"9.9.9.{n}" for n in range(6)], 4, "over 4 a minute to 9.9.9.0/24"),
        ({"network_packets_per_minute": 4}, [f"2a01:3f7:0:{n:x}::1" for n in range(1, 7)], 4, "to 2a01:3f7::/48"),
        ({"packets_per_second": 2}, [f"9.9.{n}.9" for n in range(4)], 2, "budget: target 9.9.2.9: with 1 more packets"),
        ({"control_packets_per_second": 2}, [CONTROL[0]] * 4, 2, "control-budget: control servers 198.51.100.1"),
    ],
)
def test_packets_at_one_moment_are_let_out_up_to_each_limit(
    limits: dict[str, Any], targets: list[str], let_out: int, words: str
) -> None:
    one = gate(**limits)
    answers = [one.refuses(Target(address)) for address in targets]
    assert answers[:let_out] == [None] * let_out
    assert all(answer and words.split(":")[0] in answer for answer in answers[let_out:])
    first = answers[let_out]
    assert first is not None
    assert words in first


def test_control_servers_and_targets_take_no_room_from_each_other() -> None:
    one = gate(packets_per_second=1, control_packets_per_second=1)
    for address in (CONTROL[0], CONTROL[1], CONTROL_V6[0], TARGET):
        assert one.refuses(Target(address)) is None
    assert one.refuses(Target(TARGET_V6)) is not None


@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 5), st.booleans()), max_size=200))
def test_however_the_process_is_held_up_no_window_holds_too_much(asked: list[tuple[int, int, bool]]) -> None:
    clock, addresses = Ticking(), [TARGET, "9.9.9.10", "9.9.8.1", TARGET_V6, "2a01:3f7:0:1::9", CONTROL[0]]
    one = gate(
        clock,
        target_packets_per_minute=5,
        network_packets_per_minute=7,
        packets_per_second=4,
        control_packets_per_second=3,
    )
    sent: list[tuple[str, int]] = []
    for wait_ms, number, held_up in asked:
        clock.at_ns += 0 if held_up else wait_ms * MS
        if one.refuses(Target(addresses[number])) is None:
            sent.append((addresses[number], clock.at_ns))
    for _, at_ns in sent:
        second = [to for to, other in sent if at_ns <= other < at_ns + S]
        minute = [to for to, other in sent if at_ns <= other < at_ns + 60 * S and to != CONTROL[0]]
        assert second.count(CONTROL[0]) <= 3
        assert len(second) - second.count(CONTROL[0]) <= 4
        assert all(minute.count(to) <= 5 for to in minute)
        networks = [network_of(to) for to in minute]
        assert all(networks.count(each) <= 7 for each in networks)


def test_after_a_restart_it_is_quiet_for_a_second_and_knows_what_may_have_been_sent() -> None:
    clock = Ticking()
    one = gate(clock, target_packets_per_minute=3)
    asked = job(offsets_s=(0, 2, 4, 100))
    permit = Guard(settings()).admit(asked, EPOCH_NS)
    assert isinstance(permit, Permit)
    one.recall(permit, asked.start_at_ns + 5 * S)  # the fourth packet died with its process
    answer = one.refuses(Target(TARGET))
    assert answer is not None
    assert answer.startswith("quiet: ")
    assert one.refuses(Target(CONTROL[0])) is not None
    clock.at_ns += QUIET_NS
    assert one.refuses(Target(CONTROL[0])) is None
    assert one.refuses(Target(TARGET)) is not None
    clock.at_ns += 60 * S - QUIET_NS - 5 * S + 50 * MS
    assert one.refuses(Target(TARGET)) is None
    assert one.refuses(Target(TARGET)) is not None


async def test_the_engine_sends_nothing_that_the_gate_refuses_and_says_why() -> None:
    seen: list[bytes] = []

    def play(sock: Any, payload: bytes, sender: tuple[str, int]) -> None:
        seen.append(payload)
        answering(answer_to)(sock, payload, sender)

    requests = [client_request(number) for number in (1, 2)]
    with server("127.0.0.1", play) as target:
        limited = settings(
            allow_networks=(ipaddress.ip_network("127.0.0.0/8"),),
            allow_ports=frozenset({target.port}),
            target_packets_per_minute=1,
        )
        engine = UdpEngine(Gate(limited).refuses)
        first, second = [
            await engine.exchange(
                kind=ExchangeKind.CLIENT_V4,
                request=request,
                source="127.0.0.9",
                target=target,
                send_at_ns=None,
                timeout_ns=5 * S,
                linger_ns=0,
                until_first_reply=True,
            )
            for request in requests
        ]
    assert (first.fault, len(first.replies)) == (None, 1)
    assert (second.fault, second.replies) == (LocalFault.GUARD_REFUSED, ())
    assert second.fault_detail.startswith("target-budget: target 127.0.0.1")
    assert seen == requests[:1]
