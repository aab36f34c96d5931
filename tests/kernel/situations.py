"""Challenges and observations for tests: cohorts with known paths, worlds in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from poolproof.challenge import Challenge, Expectation, Method, Observation, Path, Round, Row, expectation
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Perspective, Rir, Role
from poolproof.ids import VantageId
from poolproof.outcome import Outcome
from poolproof.policy import Assurance
from poolproof.refusal import ASKED_FOR
from poolproof.variant import Variant

CLEAN = Path(8, 8, watched=True)
RIRS = (Rir.RIPE, Rir.ARIN, Rir.APNIC, Rir.LACNIC, Rir.AFRINIC)


def challenge(
    monitors: int = 5,
    silent: int = 5,
    witnesses: int = 0,
    *,
    variant: Variant = Variant.BLOCK,
    asns: Sequence[int] | None = None,
    path: Path = CLEAN,
    prefix: bool = False,
    aim: Assurance = Assurance.STRONG,
) -> Challenge:
    """A cohort; with `allow-only` the silent ones are witnesses. `asns` are those of the silent ones."""
    quiet = Role.MUST_BE_BLOCKED if variant is Variant.BLOCK else Role.WITNESS
    roles = [Role.ALLOWED_MONITOR] * monitors + [quiet] * silent + [Role.WITNESS] * witnesses
    rows = []
    for i, role in enumerate(roles):
        asn = asns[i - monitors] if asns is not None and monitors <= i < monitors + silent else 64500 + i
        halved = prefix and role is Role.MUST_BE_BLOCKED
        source = f"2001:db8:{i}::/65" if halved else f"192.0.2.{i + 1}"
        view = Perspective(VantageId(f"v{i:02}"), role, source, asn, RIRS[i % 5])
        other = f"2001:db8:{i}:0:8000::/65" if halved else ""
        way = ASKED_FOR[i % 2] if role is Role.MUST_BE_BLOCKED else None
        rows.append(Row(view, ExchangeKind.CLIENT_V4, (expectation(variant, role),), path, way, other))
    return Challenge(Method.DIFFERENTIAL, variant, tuple(rows), aim)


def strong_cohort(variant: Variant = Variant.BLOCK, *, prefix: bool = False) -> Challenge:
    """As few as have strong odds in three rounds: twelve."""
    if variant is Variant.ALLOW_ONLY:
        return challenge(silent=7, variant=variant)
    return challenge(witnesses=2, prefix=prefix)


def rounds(asked: Challenge, count: int) -> tuple[Round, ...]:
    return tuple(Round(n, 0, n * 8_000_000_000, tuple(range(len(asked.rows)))) for n in range(count))


def enacted(asked: Challenge, count: int, silence: Outcome = Outcome.SILENT) -> tuple[Observation, ...]:
    """What an honest owner's server shows without any loss."""
    return observed(asked, count, lambda row, n: Outcome.REPLIED if row.expected[0] is Expectation.ANSWER else silence)


def observed(asked: Challenge, count: int, see: Callable[[Row, int], Outcome]) -> tuple[Observation, ...]:
    return tuple(
        Observation(
            *(i, n, outcome),
            watched=True,
            refusal=row.refusal if outcome is Outcome.REFUSED else None,
            neighbour_answered=bool(row.neighbour),
        )
        for n in range(count)
        for i, row in enumerate(asked.rows)
        for outcome in (see(row, n),)
    )


outcomes = st.sampled_from(Outcome)
quiet_outcomes = st.sampled_from([outcome for outcome in Outcome if not outcome.is_answer])


@st.composite
def challenges(draw: st.DrawFn) -> Challenge:
    variant = draw(st.sampled_from(Variant))
    silent = draw(st.integers(1, 7))
    asked = draw(st.integers(4, 10))
    return challenge(
        draw(st.integers(1, 8)),
        silent,
        draw(st.integers(0, 3)) if variant is Variant.BLOCK else 0,
        variant=variant,
        asns=draw(st.lists(st.integers(64600, 64606), min_size=silent, max_size=silent)),
        path=Path(asked, draw(st.integers(4, asked)), watched=True),
        prefix=draw(st.booleans()),
        aim=draw(st.sampled_from(Assurance)),
    )


@st.composite
def evidence(draw: st.DrawFn) -> tuple[Challenge, tuple[Round, ...], tuple[Observation, ...]]:
    """Mostly what an honest owner would show, with random faults: near the edge between proof and none."""
    asked = draw(challenges())
    count = draw(st.integers(1, 12))
    silence = draw(st.sampled_from([Outcome.SILENT, Outcome.REFUSED]))
    seen = list(enacted(asked, count, silence))
    for index in draw(st.lists(st.integers(0, len(seen) - 1), max_size=8)):
        odd = draw(outcomes if draw(st.booleans()) else quiet_outcomes)
        seen[index] = replace(seen[index], outcome=odd, received_at_ns=index)
    return asked, rounds(asked, count), tuple(seen)
