"""The responder is a correct NTP server that amplifies nothing, and plays owners and daemons on demand."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from pathlib import Path

import ntplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.classify import classify
from poolproof.exchange import Exchange, ExchangeKind
from poolproof.ntp import Header, client_request, decode, encode, from_ntp
from poolproof.outcome import Outcome
from poolproof.serving import Behaviour, Refusal, reply_to
from poolproof.target import Target
from probe.responder import Responder, listen_address, read_behaviour
from probe.udp import UdpEngine
from tests.probe.virtual import EPOCH_NS, MS, S

REQUEST = client_request(0x1234_5678_9ABC_DEF0)


def replied(
    request: bytes, behaviour: Behaviour | None = None, *, blocked: bool = False, hurried: bool = False
) -> bytes:
    reply = reply_to(
        request,
        behaviour=behaviour or Behaviour(),
        blocked=blocked,
        hurried=hurried,
        received_ns=EPOCH_NS,
        transmit_ns=EPOCH_NS + MS,
    )
    return reply or b""


@given(st.binary(max_size=600))
def test_no_datagram_is_ever_answered_with_more_bytes(request_bytes: bytes) -> None:
    assert len(replied(request_bytes)) <= len(request_bytes)


@given(st.integers(0, (1 << 64) - 1), st.integers(-25, -10))
def test_noise_changes_nothing_that_the_clocks_precision_shows(noise: int, precision: int) -> None:
    behaviour = Behaviour(precision=precision)
    plain = decode(replied(REQUEST, behaviour))
    noisy = decode(
        reply_to(
            REQUEST,
            behaviour=behaviour,
            blocked=False,
            hurried=False,
            received_ns=EPOCH_NS,
            transmit_ns=EPOCH_NS + MS,
            noise=noise,
        )
        or b""
    )
    below = 32 + precision
    assert (noisy.receive >> below, noisy.transmit >> below) == (plain.receive >> below, plain.transmit >> below)
    changed = (noisy.receive ^ plain.receive, noisy.transmit ^ plain.transmit)
    assert changed == (noise % (1 << below), (noise >> 32) % (1 << below))
    assert noisy.precision == precision


@given(st.integers(0, 255), st.binary(min_size=47, max_size=47))
def test_only_clients_of_versions_1_to_4_are_answered(first: int, rest: bytes) -> None:
    answered = bool(replied(bytes([first]) + rest))
    assert answered == (first & 7 == 3 and 1 <= first >> 3 & 7 <= 4)


def test_an_answer_says_what_rfc_5905_wants() -> None:
    asked = replace(decode(REQUEST), poll=6, version=3)
    told = decode(replied(encode(asked), Behaviour(stratum=2, refid=b"\x7f\0\0\1")))
    assert (told.leap, told.version, told.mode, told.stratum, told.poll) == (0, 3, 4, 2, 6)
    assert told.origin == asked.transmit
    assert from_ntp(told.receive, EPOCH_NS) == pytest.approx(EPOCH_NS, abs=1)
    assert from_ntp(told.transmit, EPOCH_NS) == pytest.approx(EPOCH_NS + MS, abs=1)
    assert told.refid == b"\x7f\0\0\1"


@pytest.mark.parametrize(
    ("behaviour", "blocked", "hurried", "expected"),
    [
        (Behaviour(), False, False, (1, b"LOCL")),
        (Behaviour(stratum=16), False, False, (0, b"INIT")),
        (Behaviour(), False, True, (0, b"RATE")),
        (Behaviour(refusal=Refusal.DENY), True, False, (0, b"DENY")),
        (Behaviour(), True, False, None),
        (Behaviour(silent=True), False, False, None),
        (Behaviour(silent=True, refusal=Refusal.DENY), True, False, None),
    ],
)
def test_each_behaviour_shows(
    behaviour: Behaviour, blocked: bool, hurried: bool, expected: tuple[int, bytes] | None
) -> None:
    reply = replied(REQUEST, behaviour, blocked=blocked, hurried=hurried)
    assert (None if not reply else (decode(reply).stratum, decode(reply).refid)) == expected


def test_who_is_blocked_is_in_the_list_or_not_among_the_only_ones() -> None:
    network = ipaddress.ip_network
    assert Behaviour(deny=(network("127.0.0.8/31"),)).blocks("127.0.0.9")
    assert not Behaviour(deny=(network("127.0.0.8/31"),)).blocks("127.0.0.10")
    only = Behaviour(allow_only=(network("127.0.0.1/32"), network("::1/128")), deny=(network("::1/128"),))
    assert not only.blocks("127.0.0.1")
    assert only.blocks("127.0.0.2")
    assert only.blocks("::1")


def test_a_behaviour_is_read_from_toml_and_what_is_wrong_is_named() -> None:
    text = 'deny = ["127.0.0.8/32", "2001:db8::/64"]\nrefusal = "deny"\nstratum = 3\nrefid = "GPS"\nsilent = false'
    read = read_behaviour(text)
    assert read.deny == (ipaddress.ip_network("127.0.0.8/32"), ipaddress.ip_network("2001:db8::/64"))
    assert (read.refusal, read.stratum, read.refid) == (Refusal.DENY, 3, b"GPS\0")
    with pytest.raises(ValueError, match="no field 'denied'"):
        read_behaviour("denied = []")
    with pytest.raises(ValueError, match=r"behaviour: deny: cannot read \['127.0.0.1/8'\]"):
        read_behaviour('deny = ["127.0.0.1/8"]')


def test_every_field_of_a_behaviour_can_be_read() -> None:
    lines = {"deny": "[]", "allow_only": "[]", "refusal": '"deny"', "silent": "true", "refid": '"GPS"'}
    names = [each.name for each in fields(Behaviour)]
    read = read_behaviour("".join(f"{name} = {lines.get(name, 7)}\n" for name in names))
    assert (read.silent, read.stratum, read.reference_age_ns) == (True, 7, 7)


@pytest.mark.parametrize(
    "line",
    [
        "precision = 128",
        "root_delay = -1",
        "stratum = 0",
        "stratum = 300",
        "stratum = true",
        "offset_ns = inf",
        "rate_interval_ns = -1",
        'silent = "false"',
        "deny = [1]",
        'deny = "192.0.2.7"',
    ],
)
def test_a_behaviour_that_no_answer_could_be_made_of_is_refused_when_it_is_read(line: str) -> None:
    """`inf` ended the program, stratum 300 failed at every request, and "false" in quotes was true."""
    with pytest.raises(ValueError, match=f"behaviour: {line.split()[0]}: cannot read"):
        read_behaviour(line)


@asynccontextmanager
async def serving(behaviour: Behaviour, *hosts: str) -> AsyncIterator[tuple[Responder, tuple[Target, ...]]]:
    responder = Responder([(host, 0) for host in hosts or ("127.0.0.1",)], behaviour)
    bound = await responder.start()
    try:
        yield responder, bound
    finally:
        await responder.stop()


async def ask(target: Target, source: str = "127.0.0.1", timeout_ns: int = 10 * S) -> Exchange:
    return await UdpEngine().exchange(
        kind=ExchangeKind.CLIENT_V4,
        request=REQUEST,
        source=source,
        target=target,
        send_at_ns=None,
        timeout_ns=timeout_ns,
        linger_ns=0,
        until_first_reply=True,
    )


async def outcome(target: Target, source: str = "127.0.0.1", timeout_ns: int = 10 * S) -> Outcome:
    return classify(await ask(target, source, timeout_ns), bracketed=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_it_tells_the_machines_time_by_either_family(host: str) -> None:
    async with serving(Behaviour(), host) as (_, (target,)):
        answer = await asyncio.to_thread(ntplib.NTPClient().request, host, port=target.port, timeout=10)
        assert abs(answer.offset) < 1.0
        assert (answer.stratum, answer.mode, answer.leap) == (1, 4, 0)


async def test_blocked_sources_get_silence_and_the_others_answers_and_both_change_at_once() -> None:
    blocked = Behaviour(deny=(ipaddress.ip_network("127.0.0.8/32"),))
    async with serving(blocked) as (responder, (target,)):
        assert await outcome(target, "127.0.0.9") is Outcome.REPLIED
        assert await outcome(target, "127.0.0.8", 50 * MS) is Outcome.SILENT
        responder.behaviour = replace(blocked, refusal=Refusal.DENY)
        assert await outcome(target, "127.0.0.8") is Outcome.REFUSED
        responder.behaviour = Behaviour()
        assert await outcome(target, "127.0.0.8") is Outcome.REPLIED
        assert (responder.answered, responder.ignored) == (3, 1)


async def test_a_hurried_source_is_told_so_and_others_are_not() -> None:
    async with serving(Behaviour(rate_interval_ns=3600 * S)) as (_, (target,)):
        assert await outcome(target, "127.0.0.8") is Outcome.REPLIED
        assert await outcome(target, "127.0.0.8") is Outcome.RATE_LIMITED
        assert await outcome(target, "127.0.0.9") is Outcome.REPLIED


async def test_stopped_it_is_refused_by_the_kernel_and_started_again_it_is_where_it_was() -> None:
    async with serving(Behaviour()) as (responder, (target,)):
        await responder.stop()
        # From another address than the target's: a refusal from our own would be our own firewall's.
        assert await outcome(target, "127.0.0.8", timeout_ns=100 * MS) is Outcome.REFUSED
        assert await responder.start() == (target,)
        assert await outcome(target) is Outcome.REPLIED


async def test_on_a_wildcard_it_answers_from_the_address_that_was_asked() -> None:
    # A connected socket takes nothing from any other address.
    async with serving(Behaviour(), "0.0.0.0", "::") as (_, (ipv4, ipv6)):
        assert await outcome(Target("127.0.0.55", ipv4.port), "127.0.0.8") is Outcome.REPLIED
        assert await outcome(Target("::1", ipv6.port), "::1") is Outcome.REPLIED


async def test_an_address_that_is_not_ours_is_named_and_nothing_stays_open() -> None:
    responder = Responder([("127.0.0.1", 0), ("192.0.2.1", 123)])
    with pytest.raises(OSError, match=r"listen 192\.0\.2\.1 port 123"):
        await responder.start()


def test_the_server_never_reflects_its_own_answers() -> None:
    header = decode(replied(REQUEST))
    assert isinstance(header, Header)
    assert replied(encode(header)) == b""


async def test_as_a_process_it_says_where_it_listens_and_reads_its_behaviour_again(tmp_path: Path) -> None:
    file = tmp_path / "behaviour.toml"
    file.write_text("stratum = 3")
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-m", "probe.responder", "--listen", "127.0.0.1:0", "--behaviour", str(file)]
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        target = Target(*listen_address(line.decode().strip()))
        assert decode((await ask(target)).replies[0].payload).stratum == 3
        file.write_text("stratum = ")
        process.send_signal(signal.SIGHUP)
        assert b"behaviour not changed" in await asyncio.wait_for(process.stderr.readline(), 20)
        file.write_text("stratum = 4")
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while decode((await ask(target)).replies[0].payload).stratum != 4:
            assert time.monotonic() < deadline, "the new behaviour was never read"
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
