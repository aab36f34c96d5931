"""A challenge: a matrix of expectations, perspective by exchange kind by window, to be answered or met with silence.

Every pattern method draws some cells of this matrix; one engine (`decide`) judges them all. This module also tells
which silences an attacker who cannot control the server could still bring about (design, section 2a).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from poolproof.capture import UnaskedPacket
from poolproof.evidence import event_evidence, jointly
from poolproof.exchange import ExchangeKind
from poolproof.fleet import Perspective, Role
from poolproof.outcome import Outcome
from poolproof.policy import Assurance, Policy
from poolproof.refusal import RefusalKind
from poolproof.variant import Variant


class Method(Enum):
    """Ways to prove control; see the design, section 4."""

    DIFFERENTIAL = "differential"


class Scope(Enum):
    """What a proof is about."""

    SERVICE = "service"
    """The NTP service itself."""
    ADDRESS = "address"
    """The address, or somebody behind it."""


class Expectation(Enum):
    """What one cell of the matrix asks of the target."""

    ANSWER = "answer"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Path:
    """What the baseline said about one perspective's path to the target.

    Attributes:
        asked: exchanges that counted (the probe's own failures do not).
        answered: how many of them were answered in time.
        prefix_limited: a burst from one address of the prefix silenced another, so that the target limits by prefix,
            or it could not be tried whether it does.
        answered_until_ns: when the last answer came; 0 if there was none.
        watched: the probe's tripwire has watched without a gap since before that answer.
        unasked: packets of the target that nobody there had asked for.
    """

    asked: int
    answered: int
    prefix_limited: bool = False
    answered_until_ns: int = 0
    watched: bool = False
    unasked: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One perspective's line of the matrix for one kind of exchange.

    Attributes:
        perspective: who looks, as what.
        kind: what it asks.
        expected: one expectation for each window.
        path: what its baseline was.
        refusal: in which way it shall be refused, if it is refused and not left unanswered; None: in any.
        neighbour: of a prefix that the owner was told, its other half, which they were not told and which must be
            answered in the same round. A limit by prefix silences both halves, an owner's rule the one. Else empty.
    """

    perspective: Perspective
    kind: ExchangeKind
    expected: tuple[Expectation, ...]
    path: Path
    refusal: RefusalKind | None = None
    neighbour: str = ""

    @property
    def forgeable(self) -> bool:
        """Whether an off-path attacker who knows what the owner was told can bring about this row's silence.

        By packets that bear the perspective's address, if the owner was told a single one, or if the target limits
        by prefix, which the baseline and the prefix's other half show. A witness's address is told to nobody; an
        address drawn anew from a prefix is not known beforehand.
        """
        if self.perspective.role is Role.WITNESS:
            return False
        return not self.neighbour or self.path.prefix_limited


@dataclass(frozen=True, slots=True)
class Layout:
    """What follows from a challenge's rows alone; derived once, because a challenge is judged many times.

    Attributes:
        silent: by row and window, whether silence is expected.
        must_be_silent: indices of rows that expect silence in some window.
        monitors: indices of the monitors' rows.
        asked: by window, monitors that expect an answer.
        open_witnesses: by window, witnesses that expect an answer.
        forgeable: by row, whether its silence is.
    """

    silent: tuple[tuple[bool, ...], ...]
    must_be_silent: tuple[int, ...]
    monitors: tuple[int, ...]
    asked: tuple[tuple[int, ...], ...]
    open_witnesses: tuple[tuple[int, ...], ...]
    forgeable: tuple[bool, ...]


def _lay_out(rows: tuple[Row, ...]) -> Layout:
    if len({len(row.expected) for row in rows}) > 1:
        raise ValueError("challenge: rows differ in their number of windows; give each one expectation for each window")
    silent = tuple(tuple(expected is Expectation.SILENCE for expected in row.expected) for row in rows)
    windows = range(len(rows[0].expected) if rows else 0)

    def answered(role: Role) -> tuple[tuple[int, ...], ...]:
        return tuple(
            tuple(i for i, row in enumerate(rows) if row.perspective.role is role and not silent[i][window])
            for window in windows
        )

    return Layout(
        silent=silent,
        must_be_silent=tuple(i for i, wanted in enumerate(silent) if any(wanted)),
        monitors=tuple(i for i, row in enumerate(rows) if row.perspective.role is Role.ALLOWED_MONITOR),
        asked=answered(Role.ALLOWED_MONITOR),
        open_witnesses=answered(Role.WITNESS),
        forgeable=tuple(row.forgeable for row in rows),
    )


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the owner must enact.

    Attributes:
        method: by which method.
        variant: in which way.
        rows: the matrix.
        aim: the best assurance that this cohort's evidence can reach.
        layout: derived from the rows.

    Raises:
        ValueError: the rows have different numbers of windows.
    """

    method: Method
    variant: Variant
    rows: tuple[Row, ...]
    aim: Assurance
    layout: Layout = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", _lay_out(self.rows))

    @property
    def monitors(self) -> tuple[Perspective, ...]:
        """Allowed monitors, told to the owner."""
        return self._with(Role.ALLOWED_MONITOR)

    @property
    def verifiers(self) -> tuple[Perspective, ...]:
        """Must-be-blocked verifiers, told to the owner."""
        return self._with(Role.MUST_BE_BLOCKED)

    @property
    def witnesses(self) -> tuple[Perspective, ...]:
        """Witnesses, told to nobody."""
        return self._with(Role.WITNESS)

    def _with(self, role: Role) -> tuple[Perspective, ...]:
        return tuple(row.perspective for row in self.rows if row.perspective.role is role)


@dataclass(frozen=True, slots=True)
class Round:
    """One simultaneous set of exchanges.

    Attributes:
        number: from 0.
        window: which window of the challenge it belongs to.
        start_at_ns: when all perspectives sent.
        leased: indices of the rows that were asked for; each must be accounted for.
    """

    number: int
    window: int
    start_at_ns: int
    leased: tuple[int, ...]


MAX_SIGHTED = 3
"""So many unasked packets stay in the record; the raw report has more."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One classified exchange of one round.

    Attributes:
        row: index into the challenge's rows.
        round: number of the round.
        outcome: what it amounts to.
        source: address that it was sent from.
        sent_at_ns: when the request went out.
        received_at_ns: when the answer or refusal came; 0 if none did.
        packet: the answer, as it came; empty if none did.
        watched: the probe's tripwire has watched without a gap from before the baseline's last answer up to the end of
            this exchange.
        unasked: packets of the target that came since the baseline's last answer and that nobody had asked for; the
            first ones, at most `MAX_SIGHTED`.
        unasked_total: how many there were.
        refusal: in which way the request was refused, if it was.
        neighbour_answered: the other half of the prefix was answered in the same round.
    """

    row: int
    round: int
    outcome: Outcome
    source: str = ""
    sent_at_ns: int = 0
    received_at_ns: int = 0
    packet: bytes = b""
    watched: bool = False
    unasked: tuple[UnaskedPacket, ...] = ()
    unasked_total: int = 0
    refusal: RefusalKind | None = None
    neighbour_answered: bool = False


def expectation(variant: Variant, role: Role) -> Expectation:
    """What a role expects in a variant of `differential`.

    A witness is served in `block` (the server goes on answering the public) and met with silence in `allow-only`.
    """
    match role:
        case Role.ALLOWED_MONITOR:
            return Expectation.ANSWER
        case Role.MUST_BE_BLOCKED:
            return Expectation.SILENCE
        case Role.WITNESS:
            return Expectation.ANSWER if variant is Variant.BLOCK else Expectation.SILENCE


def quorum(monitors: int) -> int:
    """Monitors that must be answered in a round for it to count: n-1 of up to five, n-2 of six and more."""
    return max(1, monitors - 1 if monitors <= 5 else monitors - 2)


def within_reach(policy: Policy, rows: tuple[Row, ...], attempt: int) -> Assurance | None:
    """The best assurance that a cohort's evidence can reach on this attempt; None if not even weak.

    One failure domain gives at most ln(1/p), and one event that cuts just those that must be silent is as likely as
    their number among all domains has it. Refusals give more, but nobody knows beforehand whether an owner will refuse.
    """
    silent = [row.perspective for row in rows if Expectation.SILENCE in row.expected]
    monitors = {row.perspective for row in rows if row.perspective.role is Role.ALLOWED_MONITOR}
    if not monitors:
        return None
    quiet = {view.asn for view in silent}
    domains = len({row.perspective.asn for row in rows})
    from_silence = jointly(
        len(quiet) * policy.most_per_domain,
        event_evidence(policy.common_cut, domains, len(quiet), 0, (policy.most_per_domain,) * len(quiet)),
    )
    regions = min(len({view.rir for view in silent}), len({view.rir for view in monitors}))
    for assurance in sorted(Assurance, reverse=True):
        if assurance is Assurance.STRONG and regions < policy.min_rirs:
            continue
        if from_silence >= policy.threshold(assurance, attempt):
            return assurance
    return None
