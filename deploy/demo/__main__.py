"""`make demo`: owners and their servers against a coordinator and twelve probes, in under three minutes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time

import click
import grpc
from rich.console import Console

from deploy.demo import isolation
from deploy.demo.coordination import CONTROLS, Coordination
from deploy.demo.owners import Story, absent, deaf, honest, interrupted
from deploy.demo.screen import Progress, finale
from deploy.demo.servers import Chrony, Ntpsec, Reference, Server
from deploy.demo.stage import Stage, StageError
from poolproof.fleet import Vantage
from poolproof.variant import Variant
from tests.lab.packages import LabUnavailableError, missing_tools, unpacked

_LIMIT_S = 300.0
_HIGH_PORT = 11123
_STRONG_IPV6 = "fd00:1::14"
_TARGETS = {"Ana": "127.0.1.10", "Ben": "127.0.1.11", "Cleo": "127.0.1.12", "Dan": "127.0.1.13", "Eve": "127.0.1.14"}


@click.command()
@click.option("--reference-only", is_flag=True, help="Use the project's own responder, as where no daemon can be had.")
@click.option("--host-network", is_flag=True, help="Use the machine's loopback, as where no own network can be made.")
def main(reference_only: bool, host_network: bool) -> None:
    """Play owners against real NTP servers; exit with 1 if a verdict is not what it must be."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    if isolation.INSIDE not in os.environ:
        _announce(console, reference_only)
        arguments = [*(["--reference-only"] if reference_only else ())]
        isolation.enter([*arguments, *(["--host-network"] if host_network else ())], own=not host_network)
    try:
        failures = asyncio.run(asyncio.wait_for(_play(console, reference_only), _LIMIT_S))
    except (StageError, TimeoutError, grpc.RpcError, ExceptionGroup) as error:
        console.print(f"[red]the demo could not be played:[/] {_words(error)}", highlight=False)
        sys.exit(1)
    for failure in failures:
        console.print(f"[red]not as it must be:[/] {failure}")
    sys.exit(1 if failures else 0)


def _words(error: Exception) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, grpc.aio.AioRpcError):
        return f"the coordinator said {error.code().name}: {error.details()}"
    return str(error) or f"not done in {_LIMIT_S:.0f} s"


def _announce(console: Console, reference_only: bool) -> None:
    console.print("poolproof proves who runs an NTP server. Takes about three and a half minutes.")
    if reference_only:
        return
    for package in ("chrony", "ntpsec"):
        try:
            console.print(f"real {package} of Debian: {unpacked(package).name}", highlight=False)
        except LabUnavailableError as error:
            console.print(f"no {package} here ({error}); the project's own reference responder stands in for it")
    if missing := [package for package in missing_tools() if package != "iptables"]:
        console.print(f"not installed: {', '.join(missing)}")


async def _play(console: Console, reference_only: bool) -> list[str]:
    own = isolation.is_own_network()
    port = 123 if own else _HIGH_PORT
    console.print(
        "a network of its own: port 123, IPv4 and IPv6"
        if own
        else f"no network of its own: the machine's loopback, port {port}, IPv4 only"
    )
    began_s = time.monotonic()
    async with Stage() as stage:
        world = Coordination(stage, port=port, with_ipv6=own)
        if own:
            _prepare(world.fleet)
        stories = _stories(stage, port, reference_only=reference_only, own=own)
        with console.status("starting the servers, the coordinator and twelve probes"):
            await asyncio.gather(world.start(), *(story.server.start() for story in stories))
        console.print(f"coordinator at {world.address}, {len(world.probes)} probes connected", highlight=False)
        with Progress(console, stories) as progress:
            await _follow(stories, world, stage, progress)
        await finale(console, stories, world)
    console.print(f"done in {time.monotonic() - began_s:.0f} s")
    return [
        f"{story.owner}: {story.verdict}, expected {story.expected}"
        for story in stories
        if story.verdict != story.expected
    ]


def _prepare(fleet: tuple[Vantage, ...]) -> None:
    ipv6 = [vantage.ipv6 for vantage in fleet if vantage.ipv6]
    ipv6 += [_STRONG_IPV6, *(address for address in CONTROLS if ":" in address)]
    prefixes = [vantage.ipv6_prefix for vantage in fleet if vantage.ipv6_prefix]
    isolation.prepare(tuple(_TARGETS.values()), ipv6, prefixes)


def _stories(stage: Stage, port: int, *, reference_only: bool, own: bool) -> list[Story]:
    def server(owner: str, kind: type[Server], address: str | None = None) -> Server:
        return _available(kind, reference_only, port)(stage, owner.lower(), address or _TARGETS[owner], port)

    block, allow_only = Variant.BLOCK, Variant.ALLOW_ONLY
    stories = [
        Story("Ana", "blocks the verifiers", server("Ana", Ntpsec), block, "proven medium"),
        Story("Ben", "answers the monitors alone", server("Ben", Chrony), allow_only, "proven strong"),
        Story("Cleo", "configured nothing", server("Cleo", Chrony), block, "refuted"),
        Story("Dan", "is down half-way", server("Dan", Ntpsec), block, "proven medium"),
        Story(
            "Eve",
            "leaves one verifier open, whose probe is dead",
            server("Eve", Chrony),
            block,
            "inconclusive report-missing",
        ),
    ]
    if own:
        fay = server("Fay", Chrony, _STRONG_IPV6)
        stories.insert(2, Story("Fay", "blocks the verifiers' IPv6 prefixes", fay, block, "proven strong"))
    return stories


def _available(kind: type[Server], reference_only: bool, port: int) -> type[Server]:
    # ntpd knows no other port.
    if reference_only or (kind is Ntpsec and port != 123):
        return Reference
    try:
        unpacked(kind.software)
    except LabUnavailableError:
        return Reference
    return kind


async def _follow(stories: list[Story], world: Coordination, stage: Stage, progress: Progress) -> None:
    """Play all stories at once; Eve's verifier is stopped only when nobody else needs it any more."""
    others_done = asyncio.Event()
    plots = {"Cleo": absent, "Dan": interrupted}
    tasks = []
    async with asyncio.TaskGroup() as group:
        for story in stories:
            if story.owner == "Eve":
                group.create_task(deaf(story, world, others_done))
            else:
                tasks.append(group.create_task(plots.get(story.owner, honest)(story, world)))
        while not all(story.seconds for story in stories):
            progress.show()
            stage.check()
            if all(task.done() for task in tasks):
                others_done.set()
            await asyncio.sleep(0.25)
    progress.show()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
