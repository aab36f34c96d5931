"""Control servers are asked until one answers, and every attempt is reported."""

from __future__ import annotations

from poolproof.exchange import Exchange, LocalFault
from probe.clock import server_answer
from probe.control import ControlCheck, fresh_transmit
from tests.probe.jobs import CONTROL, CONTROL_V6, OWN, OWN_V6, settings
from tests.probe.virtual import EPOCH_NS, MS, FakeTransport, Host, VirtualClock, run_virtual, seeded


def side(
    hosts: dict[str, Host], source: str = OWN, *, send_before_ns: int | None = None, own: frozenset[str] | None = None
) -> tuple[tuple[Exchange, ...], FakeTransport, int]:
    clock = VirtualClock()
    network = FakeTransport(clock, hosts, own=own)

    async def ask() -> tuple[tuple[Exchange, ...], int]:
        check = ControlCheck(settings().control, network, clock, seeded(1))
        return await check.side(source, send_before_ns=send_before_ns), clock.now_ns()

    exchanges, ended_ns = run_virtual(ask())
    return exchanges, network, ended_ns - EPOCH_NS


def test_one_wave_is_enough_when_somebody_answers() -> None:
    exchanges, _, took_ns = side({CONTROL[0]: Host(), CONTROL[1]: Host(30 * MS)})
    assert [each.destination for each in exchanges] == list(CONTROL)
    assert all(server_answer(each) is not None for each in exchanges)
    assert took_ns == 30 * MS


def test_one_answer_of_many_suffices_and_the_silent_ones_are_reported() -> None:
    exchanges, _, _ = side({CONTROL[1]: Host()})
    assert [server_answer(each) is not None for each in exchanges] == [False, True]


def test_nobody_is_asked_more_often_than_the_tries() -> None:
    exchanges, _, took_ns = side({})
    assert [each.destination for each in exchanges] == list(CONTROL) * 3
    assert took_ns == 3 * 450 * MS


def test_a_late_first_answer_is_not_waited_for_but_asked_again() -> None:
    exchanges, _, _ = side({CONTROL[0]: Host(600 * MS)})
    assert not any(server_answer(each) for each in exchanges)


def test_nothing_more_is_asked_after_the_last_moment_but_the_first_wave_goes_out() -> None:
    exchanges, network, _ = side({}, send_before_ns=EPOCH_NS + 500 * MS)
    assert len(exchanges) == 4
    assert all(at_ns < EPOCH_NS + 500 * MS for at_ns, _, _ in network.sent)
    exchanges, _, _ = side({}, send_before_ns=EPOCH_NS - 1)
    assert len(exchanges) == 2


def test_only_servers_of_the_sources_family_are_asked_from_that_very_source() -> None:
    exchanges, network, _ = side({CONTROL_V6[0]: Host()}, OWN_V6)
    assert [(source, to) for _, source, to in network.sent] == [(OWN_V6, CONTROL_V6[0])]
    assert len(exchanges) == 1


def test_every_attempt_has_its_own_random_timestamp() -> None:
    _, network, _ = side({})
    assert len(set(network.requests)) == 6


def test_a_source_that_cannot_be_bound_is_reported_as_such() -> None:
    exchanges, _, _ = side({CONTROL[0]: Host()}, own=frozenset())
    assert {each.fault for each in exchanges} == {LocalFault.BIND_FAILED}


def test_zero_is_drawn_again() -> None:
    left = [0, 0, 5]
    assert fresh_transmit(lambda bits: left.pop(0)) == 5
