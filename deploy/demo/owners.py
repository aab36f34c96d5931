"""The owners of the demo: each requests a verification, does to the server what a person would, and says ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from coordinator.cli.snapshot import Snapshot
from deploy.demo.coordination import Coordination
from deploy.demo.servers import Server, Told
from deploy.demo.stage import StageError
from poolproof.fleet import Role
from poolproof.ids import VantageId
from poolproof.variant import Variant
from poolproof.verdict import Reason
from poolproof.verification import State

_PATIENCE_S = 240.0
_POLL_S = 0.4
_DOWN_S = 14.0


@dataclass(slots=True)
class Story:
    """One owner's story: what was asked for, on which server, what happens, and how far it is.

    Attributes:
        owner: who, in two words.
        plot: what they do, in a sentence.
        server: the server.
        variant: what they request.
        expected: the words of the verdict that this story must end with.
        said: what happened last, for the screen.
        lived: what happened, with seconds, in order.
    """

    owner: str
    plot: str
    server: Server
    variant: Variant
    expected: str
    said: str = "waiting"
    lived: list[str] = field(default_factory=list)
    snapshot: Snapshot | None = None
    began_s: float = 0.0
    seconds: float = 0.0

    def say(self, what: str) -> None:
        """Note what happens."""
        if what != self.said:
            self.said = what
            self.lived.append(f"{time.monotonic() - self.began_s:5.1f} s  {what}")

    @property
    def verdict(self) -> str:
        """Words of the verdict so far, as `expected` has them."""
        if self.snapshot is None:
            return "none"
        judgement = self.snapshot.judgement
        if judgement.proof is not None:
            return f"proven {judgement.proof.assurance.name.lower()}"
        return judgement.word if judgement.refuted_by is not None else f"inconclusive {judgement.reason.value}"


async def honest(story: Story, world: Coordination) -> None:
    """Puts the shown lines into the daemon's configuration."""
    told = await _challenged(story, world)
    await story.server.enact(told)
    story.say("configured as told; says ready")
    await world.ready(told.snapshot.id)
    await _concluded(story, world)


async def absent(story: Story, world: Coordination) -> None:
    """Says ready for a server that nobody configured."""
    told = await _challenged(story, world)
    story.say("configures nothing; says ready")
    await world.ready(told.snapshot.id)
    await _concluded(story, world)


async def interrupted(story: Story, world: Coordination) -> None:
    """Configured rightly, but the server is down half-way, and comes back."""
    told = await _challenged(story, world)
    await story.server.enact(told)
    story.say("configured as told; says ready")
    await world.ready(told.snapshot.id)
    await _until(story, world, lambda seen: any(line.reason is None for line in seen.rounds))
    await story.server.stop()
    story.say("the server goes down")
    await _until(story, world, lambda seen: seen.judgement.reason is Reason.TARGET_DOWN)
    story.say("inconclusive: target-down")
    await asyncio.sleep(_DOWN_S)
    await story.server.start()
    story.say("the server is back")
    await _concluded(story, world)


async def deaf(story: Story, world: Coordination, when: asyncio.Event) -> None:
    """Blocks all verifiers but one; that one's probe process is stopped, so that its silence is its own."""
    told = await _challenged(story, world)
    verifiers = [line.view for line in told.snapshot.lines if line.view.role is Role.MUST_BE_BLOCKED]
    forgotten = verifiers[-1]
    story.say(f"forgets to block {forgotten.vantage}; waits for the others")
    await story.server.enact(_without(told, forgotten.source))
    await when.wait()
    world.probes[VantageId(forgotten.vantage)].freeze()
    story.say(f"the process of {forgotten.vantage} is stopped; says ready")
    await world.ready(told.snapshot.id)
    await _concluded(story, world)


def _without(told: Told, source: str) -> Told:
    """The same instructions, but for what concerns one address."""
    copy = type(told.instructions)()
    copy.CopyFrom(told.instructions)
    for step in copy.steps:
        for lines in (step.lines, step.commands):
            kept = [line for line in lines if source not in line.split()]
            del lines[:]
            lines.extend(kept)
    return Told(told.snapshot, copy, forgotten=source)


async def _challenged(story: Story, world: Coordination) -> Told:
    story.began_s = time.monotonic()
    server = story.server
    target = f"[{server.address}]:{server.port}" if ":" in server.address else f"{server.address}:{server.port}"
    story.snapshot = await world.request(target, story.variant, story.owner.lower())
    story.say("requested; baseline")
    await _until(story, world, lambda seen: seen.state not in (State.REQUESTED, State.BASELINE))
    if story.snapshot.state is not State.CHALLENGED:
        raise StageError(f"{story.owner}: no challenge, but {story.verdict}")
    return Told(story.snapshot, await world.instructions(story.snapshot.id, server.software))


async def _concluded(story: Story, world: Coordination) -> None:
    await _until(story, world, lambda seen: not seen.state.is_open)
    story.seconds = time.monotonic() - story.began_s
    story.say(story.verdict)


async def _until(story: Story, world: Coordination, done: Callable[[Snapshot], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    if story.snapshot is None:
        raise StageError(f"{story.owner}: nothing was requested")
    while True:
        story.snapshot = await world.show(story.snapshot.id)
        if done(story.snapshot):
            return
        if not story.snapshot.state.is_open:
            return
        if time.monotonic() > deadline:
            raise StageError(f"{story.owner}: still {story.verdict} after {_PATIENCE_S:.0f} s")
        await asyncio.sleep(_POLL_S)
