"""Verifications as the coordinator shows them, for tests: the kernel's own, sent over the wire."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from coordinator.cli.snapshot import Snapshot, snapshot_from_wire
from poolproof.challenge import Challenge, Expectation, Method, Observation
from poolproof.decide import decide
from poolproof.fleet import Role
from poolproof.ids import PolicyId, VerificationId
from poolproof.outcome import Outcome
from poolproof.policy import POLICY_2026_11, SECOND_NS
from poolproof.target import Target
from poolproof.v1 import verification_pb2 as pb
from poolproof.variant import Variant
from poolproof.verdict import NOTHING, Inconclusive, Reason
from poolproof.verification import Attempt, State, Verification
from poolproof.wire import verification_to_view
from tests.golden_files import check_golden
from tests.kernel.situations import challenge, enacted, rounds

GOLDEN = Path(__file__).parent / "golden"
T0 = 1_795_426_867_250_000_000
REPLY = bytes.fromhex("24020300000000000000000050505300") + bytes(32)
ID = "k7d2x9m4qwe1"
BLOCK, HIDDEN = challenge(witnesses=2), challenge(silent=7, variant=Variant.ALLOW_ONLY)
PREFIXES = challenge(witnesses=2, prefix=True)


def verification(
    asked: Challenge, seen: tuple[Observation, ...], count: int, state: State = State.MEASURING, name: str = ID
) -> Verification:
    fired = tuple(replace(r, start_at_ns=T0 + r.start_at_ns) for r in rounds(asked, count))
    open_question = Inconclusive(Reason.NOT_STARTED, (), NOTHING)
    attempt = Attempt(
        1, bytes(32), f"00-{'ab' * 16}-{'cd' * 8}-01", T0 - 60 * SECOND_NS, (), T0 - 58 * SECOND_NS,
        challenge=asked, challenged_at_ns=T0 - 30 * SECOND_NS, ready_at_ns=T0 - 5 * SECOND_NS if count else 0,
        rounds=fired, observations=seen,
        verdict=decide(asked, fired, seen, 1, POLICY_2026_11).verdict if count else open_question,
        concluded_at_ns=0 if state.is_open else T0 + 30 * SECOND_NS,
    )  # fmt: skip
    return Verification(
        VerificationId(name), Target("192.0.2.200"), "ntp.example.org", "ana", Method.DIFFERENTIAL, asked.variant,
        PolicyId("2026-11"), T0 - 60 * SECOND_NS, state, (attempt,),
    )  # fmt: skip


def answered_once(asked: Challenge) -> tuple[Observation, ...]:
    """Enacted, but for one answer in the second round."""
    quiet = next(i for i, row in enumerate(asked.rows) if row.expected[0] is Expectation.SILENCE)
    source = asked.rows[quiet].perspective.source
    answer = Observation(quiet, 1, Outcome.REPLIED, source, T0 + 8_000_400_000, T0 + 8_031_900_000, REPLY)
    return (*(o for o in enacted(asked, 2) if (o.row, o.round) != (quiet, 1)), answer)


def _half_known() -> tuple[Observation, ...]:
    return tuple(o for o in enacted(BLOCK, 2) if o.round == 0 or o.row < 3)


def _all_kinds() -> tuple[Observation, ...]:
    """Every outcome, at a monitor and at a verifier of the first round."""
    seen = {(o.row, o.round): o for o in enacted(BLOCK, 8)}
    for number, outcome in enumerate(Outcome):
        seen[0, number] = Observation(0, number, outcome)
        if not outcome.is_answer:
            seen[5, number] = Observation(5, number, outcome, watched=True)
    return tuple(seen.values())


VERIFICATIONS: dict[str, Verification] = {
    "proven-by-drop": verification(BLOCK, enacted(BLOCK, 3), 3, State.CONCLUDED),
    "proven-by-reject": verification(BLOCK, enacted(BLOCK, 3, Outcome.REFUSED), 3, State.CONCLUDED),
    "proven-by-prefix": verification(PREFIXES, enacted(PREFIXES, 3), 3, State.CONCLUDED),
    "refuted": verification(BLOCK, answered_once(BLOCK), 2, State.CONCLUDED),
    "target-down": verification(
        BLOCK, enacted(BLOCK, 1) + tuple(Observation(i, 1, Outcome.SILENT) for i in range(12)), 2
    ),
    "allow-only": verification(HIDDEN, enacted(HIDDEN, 3), 3, State.CONCLUDED),
    "allow-only-refuted": verification(HIDDEN, answered_once(HIDDEN), 2, State.CONCLUDED),
    "measuring": verification(BLOCK, _half_known(), 2),
    "not-ready-yet": verification(BLOCK, (), 0, State.CHALLENGED),
    "every-outcome": verification(BLOCK, _all_kinds(), 8, State.CONCLUDED),
}


def view(name: str, *, operator: bool = False) -> pb.Verification:
    shown = verification_to_view(VERIFICATIONS[name], POLICY_2026_11, 7, for_operator=operator)
    if shown.rounds and shown.next_at_ns:
        # When the kernel goes on is not what these tests are about.
        shown.next_at_ns = T0 + len(shown.rounds) * 8 * SECOND_NS
    return shown


def snapshot(name: str, *, operator: bool = False) -> Snapshot:
    return snapshot_from_wire(view(name, operator=operator))


def secrets(asked: Challenge) -> set[str]:
    """What must never be seen of the witnesses."""
    hidden = [row.perspective for row in asked.rows if row.perspective.role is Role.WITNESS]
    return {word for each in hidden for word in (f"{each.vantage} ", f"{each.source} ", f"AS{each.asn} ")}


def golden(name: str, text: str) -> None:
    check_golden(GOLDEN, name, text)
