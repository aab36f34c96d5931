"""The picture in the README is what the terminal shows of a simulated verification, to the letter.

`POOLPROOF_WRITE_GOLDEN=1` puts the present one into the page.
"""

from __future__ import annotations

import io
import os
import random

from rich.console import Console

from coordinator.cli.snapshot import snapshot_from_wire
from coordinator.cli.verdict_text import page
from poolproof.challenge import Method
from poolproof.fleet import Rir, Vantage
from poolproof.ids import VantageId, VerificationId
from poolproof.lifecycle import handle, next_wake_ns, outstanding
from poolproof.policy import POLICY_2026_11, SECOND_NS
from poolproof.target import Target
from poolproof.variant import Variant
from poolproof.verification import Begin, OwnerReady, Reported, State, Verification, Wake
from poolproof.wire.view import verification_to_view
from tests.docs.pages import ROOT, text
from tests.simulation.network import Network
from tests.simulation.worlds import Owner, World

WIDTH = 100
BEGUN_NS = 1_795_427_000 * SECOND_NS
WORLD = World("rejecting, 4 % loss", Owner.REJECTING, loss=0.04)
PLACES = {
    Rir.RIPE: ("ams1", "fra1", "waw1"),
    Rir.ARIN: ("nyc1", "sfo1", "yyz1"),
    Rir.APNIC: ("tyo1", "sin1", "syd1"),
    Rir.LACNIC: ("gru1", "eze1"),
    Rir.AFRINIC: ("jnb1",),
}


def _fleet() -> tuple[Vantage, ...]:
    named = [(rir, name) for rir, names in PLACES.items() for name in names]
    return tuple(
        Vantage(VantageId(name), f"198.51.100.{i}", None, None, 64495 + i, rir)
        for i, (rir, name) in enumerate(named, 1)
    )


def _play() -> tuple[Verification, int]:
    """A verification by the kernel alone, with every report at the end of its job."""
    network = Network(WORLD, random.Random("picture"))
    target = Target("203.0.113.7")
    verification = Verification(
        VerificationId("k7d2x9m4qwe1"),
        target,
        str(target),
        "alice",
        Method.DIFFERENTIAL,
        Variant.BLOCK,
        POLICY_2026_11.id,
        BEGUN_NS,
    )
    now_ns = BEGUN_NS
    verification = handle(verification, Begin(1, b"picture", _fleet()), now_ns, POLICY_2026_11).verification
    while verification.state.is_open:
        if verification.state is State.CHALLENGED:
            now_ns += 60 * SECOND_NS
            verification = handle(verification, OwnerReady(), now_ns, POLICY_2026_11).verification
            assert verification.attempt is not None
            assert verification.attempt.challenge is not None
            network.owner_ready(now_ns, verification.attempt.challenge.rows)
        for job in outstanding(verification, POLICY_2026_11):
            now_ns = max(now_ns, job.start_at_ns + job.steps[-1].offset_ns + job.timeout_ns + job.linger_ns)
            verification = handle(verification, Reported(network.report(job)), now_ns, POLICY_2026_11).verification
        due_ns = next_wake_ns(verification, POLICY_2026_11)
        if verification.state is State.MEASURING and due_ns is not None:
            now_ns = max(now_ns, due_ns)
            verification = handle(verification, Wake(), now_ns, POLICY_2026_11).verification
    return verification, now_ns


def picture() -> str:
    verification, now_ns = _play()
    snapshot = snapshot_from_wire(verification_to_view(verification, POLICY_2026_11, 1))
    paper = Console(width=WIDTH, file=io.StringIO(), color_system=None, force_terminal=False)
    with paper.capture() as captured:
        paper.print(page(snapshot, now_ns, width=WIDTH))
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def test_the_readme_shows_what_the_terminal_shows() -> None:
    before, opening, rest = text("README.md").partition("```text\n$ poolproof show k7d2\n")
    shown, closing, after = rest.partition("```\n")
    assert opening
    assert closing
    if os.environ.get("POOLPROOF_WRITE_GOLDEN") == "1":
        (ROOT / "README.md").write_text(before + opening + picture() + closing + after, encoding="utf-8")
        shown = picture()
    assert shown == picture()
