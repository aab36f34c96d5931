"""Explanations, read as an owner reads them: golden sentences for every reason to end an attempt or to pause."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.capture import UnaskedKind, UnaskedPacket
from poolproof.challenge import Challenge, Expectation, Method, Observation, Path
from poolproof.cohort import Candidate
from poolproof.decide import decide
from poolproof.explain import explain, summary
from poolproof.fleet import Perspective, Role, Vantage
from poolproof.ids import PolicyId, VerificationId
from poolproof.outcome import Outcome
from poolproof.policy import POLICY_2026_11, SECOND_NS
from poolproof.refusal import RefusalKind
from poolproof.target import Target
from poolproof.utc import utc
from poolproof.variant import Variant
from poolproof.verdict import NOTHING, Ceiling, ControlProven, Inconclusive, Reason
from poolproof.verification import Attempt, BaselinePath, State, Verification
from poolproof.wire import verdict_to_view
from tests.golden_files import check_golden
from tests.kernel.situations import challenge, enacted, observed, rounds

GOLDEN = FilePath(__file__).parent / "golden" / "explain"
_T0 = 1_795_426_867_250_000_000
UNTOUCHED = Inconclusive(Reason.NOT_STARTED, (), NOTHING)
_REPLY = bytes.fromhex("24020300000000000000000050505300") + bytes(32)


def verification(
    asked: Challenge, seen: tuple[Observation, ...], count: int, state: State = State.MEASURING
) -> Verification:
    fired = tuple(replace(r, start_at_ns=_T0 + r.start_at_ns) for r in rounds(asked, count))
    attempt = Attempt(
        1, bytes(32), "", _T0 - 60 * SECOND_NS, (), _T0 - 58 * SECOND_NS,
        challenge=asked, challenged_at_ns=_T0 - 30 * SECOND_NS, ready_at_ns=_T0 - 5 * SECOND_NS,
        rounds=fired, observations=seen,
        verdict=decide(asked, fired, seen, 1, POLICY_2026_11).verdict if count else UNTOUCHED,
        concluded_at_ns=_T0 + 30 * SECOND_NS,
    )  # fmt: skip
    return Verification(
        VerificationId("k7d2"), Target("192.0.2.200"), "ntp.example.org", "ana", Method.DIFFERENTIAL, asked.variant,
        PolicyId("2026-11"), _T0 - 60 * SECOND_NS, state, (attempt,),
    )  # fmt: skip


def text(given: Verification, *, for_operator: bool = False) -> str:
    said = explain(given, POLICY_2026_11, for_operator=for_operator)
    parts = [said.headline, "", said.advice, "", "counted:", *said.counted, "", "not counted:", *said.not_counted]
    return "\n".join(parts) + "\n"


def answered_once(asked: Challenge) -> tuple[Observation, ...]:
    quiet = next(i for i, row in enumerate(asked.rows) if row.expected[0] is Expectation.SILENCE)
    source = asked.rows[quiet].perspective.source
    answer = Observation(quiet, 1, Outcome.REPLIED, source, _T0 + 8_000_400_000, _T0 + 8_031_900_000, _REPLY)
    return (*(o for o in enacted(asked, 2) if (o.row, o.round) != (quiet, 1)), answer)


def unwatched(asked: Challenge, count: int) -> tuple[Observation, ...]:
    quiet = {i for i, row in enumerate(asked.rows) if row.expected[0] is Expectation.SILENCE}
    return tuple(replace(o, watched=False) if o.row in quiet else o for o in enacted(asked, count))


def flooded(asked: Challenge, kind: UnaskedKind, count: int) -> tuple[Observation, ...]:
    """A must-be-silent perspective of the second round was sent packets that nobody there had asked for."""
    quiet = next(i for i, row in enumerate(asked.rows) if row.expected[0] is Expectation.SILENCE)
    source = asked.rows[quiet].perspective.source
    payload = _REPLY if kind is UnaskedKind.UDP else bytes.fromhex("030d0000000000004500004c") + bytes(40)
    packet = UnaskedPacket(kind, _T0 + 9_200_000_000, "192.0.2.200", source, payload)
    return tuple(
        replace(o, source=source, unasked=(packet,), unasked_total=count) if (o.row, o.round) == (quiet, 1) else o
        for o in enacted(asked, 2)
    )


def in_one_way(asked: Challenge) -> tuple[Observation, ...]:
    """A limiter that rejects, or an owner whose firewall knows one way to refuse."""
    return tuple(
        replace(o, refusal=RefusalKind.PORT_UNREACHABLE) if o.outcome is Outcome.REFUSED else o
        for o in enacted(asked, 3, Outcome.REFUSED)
    )


BLOCK, HIDDEN = challenge(witnesses=2), challenge(silent=7, variant=Variant.ALLOW_ONLY)
PREFIXES, FEW = challenge(witnesses=2, prefix=True), challenge(silent=3)
SEEN: dict[str, Verification] = {
    "proven-by-drop": verification(BLOCK, enacted(BLOCK, 3), 3, State.CONCLUDED),
    "proven-by-reject": verification(BLOCK, enacted(BLOCK, 3, Outcome.REFUSED), 3, State.CONCLUDED),
    "proven-by-witnesses": verification(HIDDEN, enacted(HIDDEN, 3), 3, State.CONCLUDED),
    "proven-by-prefix": verification(PREFIXES, enacted(PREFIXES, 3), 3, State.CONCLUDED),
    "proven-by-chance": verification(FEW, enacted(FEW, 12), 12, State.CONCLUDED),
    "proven-unwatched": verification(HIDDEN, unwatched(HIDDEN, 3), 3, State.CONCLUDED),
    "proven-by-doubtful-refusals": verification(BLOCK, in_one_way(BLOCK), 3, State.CONCLUDED),
    "proven-mixed": verification(
        PREFIXES,
        observed(
            PREFIXES,
            3,
            lambda row, n: (
                Outcome.REPLIED
                if row.expected[0] is Expectation.ANSWER
                else (Outcome.REFUSED if row.perspective.vantage in ("v05", "v06") else Outcome.SILENT)
            ),
        ),
        3,
        State.CONCLUDED,
    ),
    "backscatter": verification(BLOCK, flooded(BLOCK, UnaskedKind.UDP, 16), 2, State.CONCLUDED),
    "backscatter-refusals": verification(BLOCK, flooded(BLOCK, UnaskedKind.ICMP, 1), 2, State.CONCLUDED),
    "backscatter-at-witness": verification(HIDDEN, flooded(HIDDEN, UnaskedKind.ICMP, 3), 2, State.CONCLUDED),
    "refuted": verification(BLOCK, answered_once(BLOCK), 2, State.CONCLUDED),
    "refuted-by-witness": verification(HIDDEN, answered_once(HIDDEN), 2, State.CONCLUDED),
    "not-ready-yet": verification(BLOCK, (), 0, State.CHALLENGED),
    "more-rounds-needed": verification(BLOCK, enacted(BLOCK, 1), 1),
    "target-down": verification(
        BLOCK, enacted(BLOCK, 1) + tuple(Observation(i, 1, Outcome.SILENT) for i in range(12)), 2
    ),
    "monitors-below-quorum": verification(
        BLOCK,
        observed(BLOCK, 1, lambda row, n: Outcome.REPLIED if row.perspective.vantage == "v00" else Outcome.SILENT),
        1,
    ),
    "witnesses-not-served": verification(
        BLOCK,
        observed(
            BLOCK,
            1,
            lambda row, n: Outcome.REPLIED if row.perspective.role is Role.ALLOWED_MONITOR else Outcome.SILENT,
        ),
        1,
    ),
    "report-missing": verification(BLOCK, tuple(o for o in enacted(BLOCK, 3) if (o.row, o.round) != (7, 2)), 3),
    "probes-failed": verification(
        challenge(silent=3),
        observed(
            challenge(silent=3),
            12,
            lambda row, n: Outcome.REPLIED if row.expected[0] is Expectation.ANSWER else Outcome.PROBE_FAILED,
        ),
        12,
        State.CONCLUDED,
    ),
    "too-little-evidence": verification(challenge(silent=1), enacted(challenge(silent=1), 12), 12, State.CONCLUDED),
}


@pytest.mark.parametrize("name", SEEN)
def test_an_owner_reads(name: str) -> None:
    check_golden(GOLDEN, f"{name}.txt", text(SEEN[name]))


def test_every_reason_and_every_ceiling_has_words_that_are_read_here() -> None:
    reasons = {each.verdict.reason for each in SEEN.values()} | EARLY_REASONS.keys()
    assert reasons == set(Reason)
    proofs = [each.verdict for each in SEEN.values() if isinstance(each.verdict, ControlProven)]
    assert {proof.ceiling for proof in proofs} == set(Ceiling)


def test_what_a_flood_leaves_at_a_witness_does_not_name_it() -> None:
    """An ICMP error quotes the packet that it is about, with the witness's address in it."""
    shown = text(SEEN["backscatter-at-witness"])
    assert "030d" not in shown
    assert "030d" in text(SEEN["backscatter-at-witness"], for_operator=True)
    view = verdict_to_view(SEEN["backscatter-at-witness"].verdict, HIDDEN).refuted.sighting
    assert (view.packet, view.source, list(view.unasked)) == (b"", "", [])
    assert view.received_at_ns % SECOND_NS == 0


def test_an_owner_never_reads_who_the_witnesses_are_and_an_operator_does() -> None:
    secret = [row.perspective for row in HIDDEN.rows if row.perspective.role is Role.WITNESS]
    owner, operator = text(SEEN["refuted-by-witness"]), text(SEEN["refuted-by-witness"], for_operator=True)
    assert not any(view.source in owner or view.vantage in owner for view in secret)
    assert secret[0].source in operator


EARLY_REASONS = {
    Reason.NOT_READY_IN_TIME: State.EXPIRED,
    Reason.WITHDRAWN: State.WITHDRAWN,
    Reason.BASELINE_UNANSWERED: State.CONCLUDED,
    Reason.TOO_FEW_VANTAGES: State.CONCLUDED,
    Reason.BACKSCATTER: State.CONCLUDED,
}


@pytest.mark.parametrize(("reason", "state"), EARLY_REASONS.items())
def test_an_attempt_that_ended_early_says_why(reason: Reason, state: State) -> None:
    whole = SEEN["not-ready-yet"]
    attempt = whole.attempts[-1]
    early = state is State.CONCLUDED
    vantage = Vantage(asked_vantage.vantage, "192.0.2.1", None, None, 64500, asked_vantage.rir)
    ended = replace(
        attempt,
        challenge=None if early else attempt.challenge,
        candidates=(Candidate(vantage, "192.0.2.1"),),
        paths=(BaselinePath(vantage.id, Path(8, 0, unasked=4)),),
        verdict=Inconclusive(reason, (), NOTHING),
    )
    name = f"{reason.value}-before.txt" if reason is Reason.BACKSCATTER else f"{reason.value}.txt"
    check_golden(GOLDEN, name, text(replace(whole, state=state, attempts=(ended,))))


asked_vantage: Perspective = BLOCK.rows[0].perspective


def test_a_verdict_in_one_line() -> None:
    verdict = SEEN["proven-by-reject"].verdict
    assert isinstance(verdict, ControlProven)
    assert summary(verdict.tally, verdict.assurance) == "allowed 5/5, blocked 5/5, 5 RIRs, bound 5e-08, strong"


@given(st.integers(0, 250_000_000_000 * 10**9))
def test_utc_agrees_with_the_standard_library(unix_ns: int) -> None:
    seconds, rest = divmod(unix_ns, 10**9)
    expected = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)
    assert utc(unix_ns) == f"{expected:%Y-%m-%d %H:%M:%S}.{rest // 10**6:03} UTC"
