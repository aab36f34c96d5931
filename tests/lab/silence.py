"""Measures which floods silence whom at which servers, and what the victim could notice: `python -m tests.lab.silence`.

A cell is one server, one kind of packet and one rhythm, with a victim's address of its own. The victim asks every 8 s,
as poolproof does, while an attacker elsewhere floods the server in the victim's name. Counted are the victim's answers,
a monitor's answers, and what came to the victim unasked. Nobody configured anything: all silence is forged.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import click

from tests.lab.ask import Heard, ask_all
from tests.lab.floods import KINDS, Floods, Paced, Pulses, Rhythm, Steady, Stream, stream
from tests.lab.floods_servers import BURST, PER_MINUTE, SERVERS, at_hand
from tests.lab.floods_wire import Backscatter, Unasked
from tests.lab.net import Host, Network

QUESTION_S: Final = 8.0
"""The rounds' spacing of policy 2026-11."""
FIRST_QUESTION_S: Final = 3.0
QUESTIONS: Final = 7
QUESTIONS_AT_500: Final = 4
_PULSE = Pulses(size=20, first_s=FIRST_QUESTION_S - 0.45, every_s=QUESTION_S, within_s=0.4)
_UFW_PULSE = Pulses(size=1, first_s=FIRST_QUESTION_S - 1, every_s=2 * QUESTION_S, within_s=0.1)

RHYTHMS: Final[Mapping[str, Rhythm]] = MappingProxyType(
    {
        "1/s": Steady(1),
        "2/s": Steady(2),
        "5/s": Steady(5),
        "50/s": Steady(50),
        "500/s": Steady(500),
        "pulses": _PULSE,
        "exact": Paced(BURST, PER_MINUTE / 60 * 0.99),
    }
)
"""By the name that tables use. Pulses: 20 packets in the half second before each question, none in between."""

_EXACT: Final[Mapping[str, Rhythm]] = {"ufw-limit": _UFW_PULSE}
_PACKETS_PER_SECOND = 5000.0
"""So many at once is what two cores carry without loss."""
_AT_500 = frozenset(
    {"mode3-v4", "mode1", "mode4", "short-47", "mac-20", "crypto-nak", "port-0", "checksum", "fragment", "redirect"}
)
"""The others say at 500 a second what they say at 50."""
_ANSWER_S = 0.5
_TOGETHER = 24
"""So many questions reach one daemon at once; more would fill a socket's buffer, and that looks like silence."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One cell to measure."""

    server: str
    kind: str
    rhythm: str

    @property
    def beat(self) -> Rhythm:
        """Its rhythm; exact accounting depends on what is accounted."""
        return _EXACT.get(self.server, RHYTHMS["exact"]) if self.rhythm == "exact" else RHYTHMS[self.rhythm]

    @property
    def per_second(self) -> float:
        """How many packets a second, about."""
        match self.beat:
            case Steady(per_second) | Paced(_, per_second):
                return per_second
            case _:
                return 20 / QUESTION_S


@dataclass(frozen=True, slots=True)
class Cell:
    """What was measured.

    Attributes:
        server, kind, rhythm: keys of `SERVERS`, `KINDS`, `RHYTHMS`.
        asked: the victim's own questions while the flood ran.
        answered, refused: how many of them were answered (a kiss code is an answer too), and refused by ICMP.
        monitor: how many of the monitor's questions were answered, of as many.
        sent: packets of the flood.
        udp_at_once, udp_later: unasked datagrams at the victim in the first second of the flood, and after it.
        icmp_at_once, icmp_later: unasked ICMP errors likewise.
    """

    server: str
    kind: str
    rhythm: str
    asked: int
    answered: int
    refused: int
    monitor: int
    sent: int
    udp_at_once: int
    udp_later: int
    icmp_at_once: int
    icmp_later: int

    @property
    def backscatter(self) -> int:
        """Everything that came unasked."""
        return self.udp_at_once + self.udp_later + self.icmp_at_once + self.icmp_later


def every() -> tuple[Plan, ...]:
    """The whole matrix."""
    plans = []
    for name in at_hand():
        server = SERVERS[name]
        for kind in server.kinds:
            for rhythm in RHYTHMS:
                if (rhythm == "exact" and not server.limiter) or (rhythm == "500/s" and kind not in _AT_500):
                    continue
                plans.append(Plan(name, kind, rhythm))
    return tuple(plans)


def telling() -> tuple[Plan, ...]:
    """The cells that say most, for a quick look."""
    plans = []
    for name in at_hand():
        if SERVERS[name].limiter:
            plans += [Plan(name, kind, "50/s") for kind in ("short-47", "checksum")]
        else:
            kinds = ("mode3-v4", "short-47", "mac-20", "redirect")
            plans += [Plan(name, kind, "50/s") for kind in kinds if kind in SERVERS[name].kinds]
    return tuple(plans)


def batches(plans: Sequence[Plan]) -> Iterator[list[Plan]]:
    """Cells that fit side by side; the heaviest rhythm goes apart, because it is asked fewer times."""
    for fast in (False, True):
        batch: list[Plan] = []
        load = 0.0
        for plan in plans:
            if (plan.rhythm == "500/s") is not fast:
                continue
            if batch and load + plan.per_second > _PACKETS_PER_SECOND:
                yield batch
                batch, load = [], 0.0
            batch.append(plan)
            load += plan.per_second
        if batch:
            yield batch


@dataclass(frozen=True, slots=True)
class _Victim:
    """Whom a cell is about: the address that the flood bears, the one that asks, and in which turn it asks."""

    plan: Plan
    claimed: str
    source: str
    turn: int

    @property
    def late_s(self) -> float:
        """How much later than the first this one asks."""
        return self.turn * _ANSWER_S


def measure(plans: Sequence[Plan], questions: int | None = None) -> list[Cell]:
    """Measure cells side by side, in one network that is gone afterwards.

    Args:
        plans: cells.
        questions: how often each victim asks; left out, `QUESTIONS`, or fewer at the highest rate.
    """
    count = questions or (QUESTIONS_AT_500 if any(plan.rhythm == "500/s" for plan in plans) else QUESTIONS)
    names = list(dict.fromkeys(plan.server for plan in plans))
    with Network() as net, ExitStack() as running:
        victim, monitor, attacker = (
            net.host(name, ipv4=f"198.18.{n}.1", ipv6=f"2001:db8:{n}::1")
            for n, name in enumerate(("victim", "monitor", "attacker"), 1)
        )
        targets = {
            name: net.host(f"s{number}", ipv4=f"198.18.9.{number}", ipv6=f"2001:db8:9::{number:x}")
            for number, name in enumerate(names, 1)
        }
        victims = _victims(net, victim, plans)
        for name, host in targets.items():
            running.enter_context(SERVERS[name].daemon(host, SERVERS[name].lines))
            if (firewall := SERVERS[name].firewall) is not None:
                firewall(host)
        wire = running.enter_context(Backscatter(victim))
        pool = running.enter_context(ThreadPoolExecutor(len(names)))
        streams = {v.plan: _stream(v, _address(v.plan, targets)) for v in victims}
        flooding = running.enter_context(Floods(attacker))
        begun_s, begun = time.time(), time.monotonic()
        flooding.add(*streams.values())
        heard: dict[Plan, list[Heard]] = {plan: [] for plan in plans}
        monitored = dict.fromkeys(names, 0)
        for number in range(count):
            for turn in range(1 + max(v.turn for v in victims)):
                _until(begun + FIRST_QUESTION_S + number * QUESTION_S + turn * _ANSWER_S)
                mine = {name: [v for v in victims if v.plan.server == name and v.turn == turn] for name in names}
                asking = {
                    name: pool.submit(_ask, one, victim, monitor if turn == 0 else None, targets[name])
                    for name, one in mine.items()
                    if one
                }
                for name, asked in asking.items():
                    answers, monitors = asked.result()
                    monitored[name] += monitors
                    for plan, answer in answers.items():
                        heard[plan].append(answer)
        flooding.clear()
        seen = wire.seen()
    return [_cell(v, heard[v.plan], monitored[v.plan.server], streams[v.plan], seen, begun_s) for v in victims]


def _victims(net: Network, host: Host, plans: Sequence[Plan]) -> list[_Victim]:
    """An address for each cell; where a prefix is limited, the question comes from another address of it."""
    victims, addresses = [], []
    asking: Counter[str] = Counter()
    for number, plan in enumerate(plans, 1):
        server = SERVERS[plan.server]
        turn = asking[plan.server] // _TOGETHER
        asking[plan.server] += 1
        if server.by_prefix:
            prefix = f"2001:db8:6:{number:x}::"
            net.add_prefix(host, f"{prefix}/64")
            victims.append(_Victim(plan, f"{prefix}1", f"{prefix}beef:{number:x}", turn))
        else:
            address = f"2001:db8:5::{number:x}" if server.ipv6 else f"198.19.{number // 250}.{1 + number % 250}"
            addresses.append(address)
            victims.append(_Victim(plan, address, address, turn))
    net.add_addresses(host, addresses)
    return victims


def _address(plan: Plan, targets: dict[str, Host]) -> str:
    return targets[plan.server].ipv6 if SERVERS[plan.server].ipv6 else targets[plan.server].ipv4


def _stream(victim: _Victim, server: str) -> Stream:
    kind = KINDS[victim.plan.kind]
    if victim.plan.server == "ufw-limit" and kind.source_ports == (123,):
        kind = replace(kind, source_ports=tuple(range(1024, 1152)))  # it counts flows and not packets
    beat = victim.plan.beat
    if isinstance(beat, Pulses):
        beat = replace(beat, first_s=beat.first_s + victim.late_s)
    return stream(kind, victim.claimed, server, beat)


def _ask(victims: Sequence[_Victim], victim: Host, monitor: Host | None, target: Host) -> tuple[dict[Plan, Heard], int]:
    """One question of each victim of a server, and of the monitor if there is one, at once; was that one answered?"""
    askers: list[tuple[Host, str | None]] = [(victim, one.source) for one in victims]
    if monitor is not None:
        askers.append((monitor, None))
    server = target.ipv6 if SERVERS[victims[0].plan.server].ipv6 else target.ipv4
    heard = ask_all(askers, server, timeout_s=_ANSWER_S)
    answered = sum(each.answer is not None for each in heard[len(victims) :])
    return {one.plan: each for one, each in zip(victims, heard, strict=False)}, answered


def _cell(
    victim: _Victim,
    heard: Sequence[Heard],
    monitor: int,
    sent: Stream,
    seen: Mapping[str, tuple[Unasked, ...]],
    begun_s: float,
) -> Cell:
    unasked = [each for address in {victim.claimed, victim.source} for each in seen.get(address, ())]
    first_s = begun_s + next(sent.rhythm.offsets())
    counts = {
        (icmp, later): sum(each.icmp is icmp and (each.at_s > first_s + 1) is later for each in unasked)
        for icmp in (False, True)
        for later in (False, True)
    }
    plan = victim.plan
    return Cell(
        server=plan.server,
        kind=plan.kind,
        rhythm=plan.rhythm,
        asked=len(heard),
        answered=sum(one.answer is not None for one in heard),
        refused=sum(one.icmp is not None for one in heard),
        monitor=monitor,
        sent=sent.sent,
        udp_at_once=counts[False, False],
        udp_later=counts[False, True],
        icmp_at_once=counts[True, False],
        icmp_later=counts[True, True],
    )


def _until(instant: float) -> None:
    while (left := instant - time.monotonic()) > 0:
        time.sleep(min(left, 1.0))


def load(path: Path) -> list[Cell]:
    """Cells as `--json` wrote them."""
    return [Cell(**cell) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="only the most telling cells, in half a minute")
@click.option("--json", "to", type=click.Path(path_type=Path), help="write what was measured to a file")
@click.option(
    "--only", multiple=True, help="only these servers; may be given several times. The others' cells stay in the file"
)
def main(quick: bool, to: Path | None, only: tuple[str, ...]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    plans = [plan for plan in (telling() if quick else every()) if not only or plan.server in only]
    cells: list[Cell] = []
    begun = time.monotonic()
    for batch in batches(plans):
        cells += measure(batch, 3 if quick else None)
        click.echo(f"{len(cells)} of {len(plans)} cells, {time.monotonic() - begun:.0f} s", err=True)
    order = {plan: number for number, plan in enumerate(plans)}
    cells.sort(key=lambda cell: order[Plan(cell.server, cell.kind, cell.rhythm)])
    for cell in cells:
        click.echo(
            f"{cell.server:17} {cell.kind:11} {cell.rhythm:7} answered {cell.answered}/{cell.asked} "
            f"refused {cell.refused} monitor {cell.monitor} sent {cell.sent:6} backscatter "
            f"UDP {cell.udp_at_once}+{cell.udp_later} ICMP {cell.icmp_at_once}+{cell.icmp_later}"
        )
    if to is not None:
        measured = dict.fromkeys(plans)
        kept = [cell for cell in load(to) if Plan(cell.server, cell.kind, cell.rhythm) not in measured] if only else []
        cells = sorted([*kept, *cells], key=lambda cell: list(SERVERS).index(cell.server))
        lines = ",\n".join(json.dumps(asdict(cell)) for cell in cells)
        to.write_text(f'{{"cells": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
