"""What a calibration target heard and answered, and what honest and lying probes report of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from poolproof.calibration import Heard, Truth
from poolproof.exchange import Exchange, ExchangeKind, IcmpError, Reply
from poolproof.ids import JobId, VantageId
from poolproof.job import ClockCheck, Report
from poolproof.ntp import client_request
from poolproof.policy import SECOND_NS
from poolproof.serving import Behaviour, reply_to

NOW_NS = 1_795_000_000_000_000_000
SOURCE, TARGET = "192.0.2.7", "198.51.100.123"


def exchange(number: int, *replies: bytes, source: str = SOURCE) -> Exchange:
    sent_at_ns = NOW_NS + number * 8 * SECOND_NS
    request = client_request(random.Random(number).getrandbits(63) + 1)
    came = tuple(Reply(payload, sent_at_ns + 20_000_000) for payload in replies)
    return Exchange(ExchangeKind.CLIENT_V4, request, source, TARGET, 123, sent_at_ns, 1_500_000_000, came)


def answer_to(asked: Exchange, noise: int = 0x1234_5678_9ABC_DEF0) -> bytes:
    at_ns = asked.sent_at_ns + 10_000_000
    answer = reply_to(
        asked.request,
        behaviour=Behaviour(stratum=2, refid=b"\x05\x06\x07\x08"),
        blocked=False,
        hurried=False,
        received_ns=at_ns,
        transmit_ns=at_ns,
        noise=noise,
    )
    assert answer is not None
    return answer


def heard(asked: Exchange, answer: bytes = b"", source: str = SOURCE) -> Truth:
    at_ns = asked.sent_at_ns + 10_000_000
    return {asked.request[40:48]: (Heard(source, at_ns, answer, at_ns if answer else 0),)}


def answered(number: int = 1) -> tuple[Exchange, Truth]:
    """One that was answered, honestly reported."""
    asked = exchange(number)
    answer = answer_to(asked)
    return replace(asked, replies=(Reply(answer, asked.sent_at_ns + 20_000_000),)), heard(asked, answer)


def refused(asked: Exchange, offender: str = TARGET) -> Exchange:
    return replace(asked, icmp=(IcmpError(3, 3, offender, asked.request, asked.sent_at_ns + 20_000_000),))


def report(exchanges: Sequence[Exchange], *, controls: bool = True) -> Report:
    """A report of them, with control servers that answered or not."""
    asked = exchange(0)
    control = (replace(asked, replies=(Reply(answer_to(asked), asked.sent_at_ns + 20_000_000),)),) if controls else ()
    return Report(JobId("c/1/0/v1"), VantageId("v1"), tuple(exchanges), control, control, ClockCheck(0, 1_000_000, 2))
