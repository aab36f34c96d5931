"""How fast the probe's two engines are, beside ntplib one by one and a plain C loop, in one run.

All four ask the same responder, a C program with sendmmsg and recvmmsg, so that it is never the one that is measured.
The rounds alternate and each ratio is the median of its rounds: rates change by half on a shared machine, ratios less.

    python -m bench.engine
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import ntplib

from poolproof.exchange import ExchangeKind
from poolproof.ntp import client_request
from poolproof.target import Family, Target
from probe.sweep import Swept, sweep
from probe.udp import UdpEngine

ADDRESS = "127.0.0.1"
ROUNDS = 7
NTPLIB_EXCHANGES = 2_000
ENGINE_EXCHANGES = 4_000
SWEEP_EXCHANGES = 30_000
C_EXCHANGES = 60_000
IN_FLIGHT = 256
C_IN_FLIGHT = 64
TIMEOUT_NS = 5_000_000_000
TARGETS = {"sweep_to_ntplib": 6.0, "sweep_to_c": 0.6, "exchange_to_ntplib": 1.3}
"""Ratios of exchanges per second that are to be reached."""


class Sample(NamedTuple):
    """One round of one engine."""

    per_s: float
    cpu_us: float


def measure() -> dict[str, float]:
    """Rates, CPU microseconds per exchange and ratios; medians of the rounds.

    Raises:
        RuntimeError: no C compiler, or an exchange was not answered.
    """
    with tempfile.TemporaryDirectory(prefix="poolproof-bench-") as directory, _own_processor() as other:
        program = _compiled(Path(directory))
        with _responder(program, other) as target:
            runners: dict[str, Callable[[], Sample]] = {
                "ntplib": lambda: _timed(NTPLIB_EXCHANGES, lambda: _ntplib(target)),
                "exchange": lambda: _timed(ENGINE_EXCHANGES, lambda: asyncio.run(_exchanges(target))),
                "sweep": lambda: _timed(SWEEP_EXCHANGES, lambda: asyncio.run(_swept(target))),
                "c": lambda: _c_loop(program, target),
            }
            rounds = [{name: run() for name, run in runners.items()} for _ in range(ROUNDS + 1)][1:]  # one to warm up
    figures: dict[str, float] = {}
    for name in runners:
        figures[f"{name}_per_s"] = statistics.median(each[name].per_s for each in rounds)
        figures[f"{name}_cpu_us"] = statistics.median(each[name].cpu_us for each in rounds)
    for ratio in TARGETS:
        ours, _, theirs = ratio.partition("_to_")
        figures[f"ratio_{ratio}"] = statistics.median(each[ours].per_s / each[theirs].per_s for each in rounds)
        figures[f"ratio_cpu_{ratio}"] = statistics.median(each[theirs].cpu_us / each[ours].cpu_us for each in rounds)
    return figures


def _compiled(into: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("bench.engine needs a C compiler for its responder: install gcc or clang")
    program = into / "c_loop"
    source = Path(__file__).with_name("c_loop.c")
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return program


@contextmanager
def _own_processor() -> Iterator[int | None]:
    """Keep the askers to one processor and give the number of another for the responder, None if there is only one.

    A target is another machine. Left to the scheduler, asker and responder share a processor in some runs and not in
    others, which changes ntplib's rate by two and the C loop's by two the other way.
    """
    allowed = os.sched_getaffinity(0)
    if len(allowed) == 1:
        yield None
        return
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield max(allowed)
    finally:
        os.sched_setaffinity(0, allowed)


@contextmanager
def _responder(program: Path, processor: int | None) -> Iterator[Target]:
    with subprocess.Popen([program, "respond", ADDRESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as responder:
        assert responder.stdin is not None
        assert responder.stdout is not None
        if processor is not None:
            os.sched_setaffinity(responder.pid, {processor})
        try:
            yield Target(ADDRESS, int(responder.stdout.readline()))
        finally:
            responder.stdin.close()  # it stops at the end of its input


def _timed(count: int, run: Callable[[], int]) -> Sample:
    start_s, cpu_s = time.perf_counter(), time.process_time()
    answered = run()
    elapsed_s, used_s = time.perf_counter() - start_s, time.process_time() - cpu_s
    if answered != count:
        raise RuntimeError(f"{count - answered} of {count} exchanges were not answered: the rates would mean nothing")
    return Sample(count / elapsed_s, used_s * 1e6 / count)


def _ntplib(target: Target) -> int:
    client = ntplib.NTPClient()
    for _ in range(NTPLIB_EXCHANGES):
        client.request(target.address, version=4, port=target.port, timeout=TIMEOUT_NS / 1e9)
    return NTPLIB_EXCHANGES


async def _exchanges(target: Target) -> int:
    engine = UdpEngine()
    numbers = iter(range(ENGINE_EXCHANGES))
    answered = 0

    async def ask_on() -> None:
        nonlocal answered
        for _ in numbers:
            exchange = await engine.exchange(
                kind=ExchangeKind.CLIENT_V4,
                request=client_request(int.from_bytes(os.urandom(8), "big") | 1),
                source=ADDRESS,
                target=target,
                send_at_ns=None,
                timeout_ns=TIMEOUT_NS,
                linger_ns=0,
                until_first_reply=True,
            )
            answered += len(exchange.replies)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(ask_on())
    return answered


async def _swept(target: Target) -> int:
    answered = 0

    def count(result: Swept) -> None:
        nonlocal answered
        answered += result.payload is not None

    targets = repeat(target, SWEEP_EXCHANGES)
    await sweep(targets, count, sources={Family.IPV4: ADDRESS}, timeout_ns=TIMEOUT_NS, in_flight=IN_FLIGHT)
    return answered


def _c_loop(program: Path, target: Target) -> Sample:
    arguments = [str(program), "ask", target.address, str(target.port), str(C_EXCHANGES), str(C_IN_FLIGHT)]
    printed = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    elapsed_ns, cpu_ns, stamped = map(int, printed.split())
    if stamped != C_EXCHANGES:
        raise RuntimeError(f"the C loop got {stamped} timestamps of {C_EXCHANGES}: it did less work than the engines")
    return Sample(C_EXCHANGES * 1e9 / elapsed_ns, cpu_ns / 1e3 / C_EXCHANGES)


def table(figures: dict[str, float]) -> str:
    """The figures for people."""
    names = {
        "ntplib": "ntplib, one by one",
        "exchange": f"UdpEngine, {IN_FLIGHT} in flight",
        "sweep": f"sweep, {IN_FLIGHT} in flight",
        "c": f"C sendmmsg/recvmmsg, {C_IN_FLIGHT} in flight",
    }
    lines = [f"{'engine':<36}{'exchanges/s':>12}{'CPU µs each':>13}"]
    lines += [
        f"{words:<36}{figures[f'{name}_per_s']:>12,.0f}{figures[f'{name}_cpu_us']:>13.1f}"
        for name, words in names.items()
    ]
    lines += ["", f"{'ratio':<36}{'rates':>12}{'to reach':>13}{'CPU':>8}"]
    lines += [
        f"{ratio:<36}{figures[f'ratio_{ratio}']:>12.2f}{goal:>13}{figures[f'ratio_cpu_{ratio}']:>8.2f}"
        for ratio, goal in TARGETS.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure()))
