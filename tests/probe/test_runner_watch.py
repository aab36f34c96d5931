"""A job that asks for a watch gets one before its first packet, and its report has the account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from poolproof.capture import Capture
from poolproof.exchange import LocalFault
from poolproof.target import Target
from tests.probe.fake_tripwire import unasked
from tests.probe.jobs import OWN, TARGET, job
from tests.probe.virtual import EPOCH_NS, S
from tests.probe.world import World, faults

WATCH: dict[str, Any] = {"watch_until_ns": EPOCH_NS + 3600 * S}


def test_the_tripwire_watches_from_before_the_first_packet_and_its_account_is_in_the_report(
    make: Callable[..., World],
) -> None:
    world = make()
    seen_at_sending = list[Capture | None]()

    def sent(destination: str) -> None:
        if destination == TARGET:
            seen_at_sending.append(world.tripwire.harvest(asked.verification, asked.target, asked.source))
            world.tripwire.receive(Target(TARGET), unasked(OWN, world.clock.now_ns()))

    world.network.on_send = sent
    asked = job(**WATCH)
    report = world.run(asked)
    assert seen_at_sending[0] is not None
    assert seen_at_sending[0].since_ns <= asked.start_at_ns
    assert report.capture is not None
    assert report.capture.unasked == (unasked(OWN, asked.start_at_ns),)
    assert report.capture.until_ns >= asked.start_at_ns + asked.timeout_ns + asked.linger_ns


def test_the_next_job_of_a_verification_goes_on_with_the_account(make: Callable[..., World]) -> None:
    world = make()
    first = world.run(job("a", **WATCH)).capture
    world.clock.off_ns = 30 * S
    world.tripwire.receive(Target(TARGET), unasked(OWN, EPOCH_NS + 20 * S))
    second = world.run(job("b", start_at_ns=EPOCH_NS + 40 * S, **WATCH)).capture
    assert first is not None
    assert second is not None
    assert second.since_ns == first.since_ns
    assert (first.unasked_total, second.unasked_total) == (0, 1)


def test_a_watch_outlives_its_job_however_soon_it_shall_end(make: Callable[..., World]) -> None:
    world = make()
    report = world.run(job(offsets_s=(0, 8), watch_until_ns=EPOCH_NS + 1))
    assert report.capture is not None


def test_who_does_not_ask_for_a_watch_gets_none(make: Callable[..., World]) -> None:
    world = make()
    world.run(job("a", **WATCH))
    assert world.run(job("b", start_at_ns=EPOCH_NS + 2 * S, target=Target("9.9.9.10"))).capture is None


def test_a_job_that_is_not_done_tells_what_a_watch_that_is_there_caught(make: Callable[..., World]) -> None:
    world = make()
    assert world.run(job("late", start_at_ns=EPOCH_NS - S, **WATCH)).capture is None
    world.run(job("a", **WATCH))
    world.tripwire.receive(Target(TARGET), unasked(OWN, EPOCH_NS))
    capture = world.run(job("later", start_at_ns=EPOCH_NS - S, **WATCH)).capture
    assert capture is not None
    assert capture.unasked_total == 1


def test_a_job_that_the_guard_refuses_arms_nothing(make: Callable[..., World]) -> None:
    world = make()
    report = world.run(job(target=Target("10.0.0.1"), **WATCH))
    assert faults(report) == {LocalFault.GUARD_REFUSED}
    assert world.tripwire.watches == 0
