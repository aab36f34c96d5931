"""Probes that ask calibration targets in earnest, from addresses of their own, and then tell the truth or do not."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from poolproof.exchange import Exchange, IcmpError, Reply
from poolproof.ids import VantageId
from poolproof.job import ClockCheck, Job, Report, Step
from poolproof.ntp import client_request
from probe.udp import UdpEngine
from tests.coordinator.doubles import exchange as scripted

Tale = Callable[[Job, Exchange], Exchange]
"""What a probe makes of one exchange with the target that really happened."""
RELAY = "127.7.1.1"
"""An address that is no vantage's."""
_SERIAL = itertools.count(1)


def honest(_: Job, seen: Exchange) -> Exchange:
    return seen


def hides(_: Job, seen: Exchange) -> Exchange:
    return replace(seen, replies=())


def hides_in_rounds(job: Job, seen: Exchange) -> Exchange:
    """Looks well in every baseline, so that it is given roles."""
    return hides(job, seen) if len(job.steps) == 1 else seen


def garbles(_: Job, seen: Exchange) -> Exchange:
    """The answer that it got, with other bits in the place of its own: then nobody was answered."""
    return replace(seen, replies=tuple(replace(reply, payload=bytes(48)) for reply in seen.replies))


def invents(_: Job, seen: Exchange) -> Exchange:
    """A plausible answer where none came."""
    if seen.replies:
        return seen
    answer = bytes((0o44, 2)) + bytes(22) + seen.request[40:48] + random.Random(next(_SERIAL)).randbytes(16)
    return replace(seen, replies=(Reply(answer, seen.sent_at_ns + 1_000_000),))


def refuses(job: Job, seen: Exchange) -> Exchange:
    """A refusal that quotes its packet, in rounds."""
    if len(job.steps) > 1:
        return seen
    error = IcmpError(3, 3, seen.destination, seen.request, seen.sent_at_ns + 1_000_000)
    return replace(seen, replies=(), icmp=(error,))


def sometimes(rate: float, tale: Tale, seed: str) -> Tale:
    """Lies in each exchange with one chance."""
    rng = random.Random(seed)
    return lambda job, seen: tale(job, seen) if rng.random() < rate else seen


def telling(
    tales: Mapping[VantageId, Tale], *, relayed: frozenset[VantageId] = frozenset()
) -> Callable[[Job], Awaitable[Report]]:
    """Does any vantage's job. Whoever is in `relayed` asks from another address and says that it was its own."""
    engine = UdpEngine()

    async def ask(job: Job, step: Step) -> Exchange:
        serial = random.Random(f"{job.id} {step.offset_ns}").getrandbits(63) + 1
        seen = await engine.exchange(
            kind=step.kind,
            request=client_request(serial),
            source=RELAY if job.vantage in relayed else job.source,
            target=job.target,
            send_at_ns=job.start_at_ns + step.offset_ns,
            timeout_ns=job.timeout_ns,
            linger_ns=job.linger_ns,
        )
        return tales.get(job.vantage, honest)(job, replace(seen, source=job.source))

    async def does(job: Job) -> Report:
        seen = await asyncio.gather(*(ask(job, step) for step in job.steps))
        control = (scripted(job, job.start_at_ns, answered=True, control=True),)
        return Report(job.id, job.vantage, tuple(seen), control, control, ClockCheck(0, 1_000_000, 2))

    return does
