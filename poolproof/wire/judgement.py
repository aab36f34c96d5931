"""Fleet, challenge, observations and verdicts on the wire (proto/poolproof/v1/judgement.proto)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, assert_never

from poolproof.challenge import MAX_SIGHTED, Challenge, Expectation, Method, Observation, Path, Round, Row, Scope
from poolproof.fleet import Perspective, Rir, Role, Vantage
from poolproof.ids import VantageId
from poolproof.outcome import Outcome
from poolproof.policy import Assurance
from poolproof.refusal import RefusalKind
from poolproof.v1 import judgement_pb2 as pb
from poolproof.variant import Variant
from poolproof.verdict import Ceiling, ControlProven, ControlRefuted, Inconclusive, Reason, Tally, Verdict
from poolproof.wire import checks
from poolproof.wire.capture import unasked_from_wire, unasked_to_wire
from poolproof.wire.checks import WireError
from poolproof.wire.evidence import KINDS, MAX_PAYLOAD_BYTES

MAX_ROWS: Final = 4096
MAX_OPERATOR: Final = 256
_MAX_WINDOWS: Final = 1024
_MAX_COUNT: Final = (1 << 32) - 1

RIRS: Final = checks.EnumNames(Rir, "RIR", pb.Rir.items())
ROLES: Final = checks.EnumNames(Role, "ROLE", pb.Role.items())
METHODS: Final = checks.EnumNames(Method, "METHOD", pb.Method.items())
VARIANTS: Final = checks.EnumNames(Variant, "VARIANT", pb.Variant.items())
SCOPES: Final = checks.EnumNames(Scope, "SCOPE", pb.Scope.items())
ASSURANCES: Final = checks.EnumNames(Assurance, "ASSURANCE", pb.Assurance.items())
EXPECTATIONS: Final = checks.EnumNames(Expectation, "EXPECTATION", pb.Expectation.items())
REFUSALS: Final = checks.EnumNames(RefusalKind, "REFUSAL_KIND", pb.RefusalKind.items())
OUTCOMES: Final = checks.EnumNames(Outcome, "OUTCOME", pb.Outcome.items())
REASONS: Final = checks.EnumNames(Reason, "REASON", pb.Reason.items())
CEILINGS: Final = checks.EnumNames(Ceiling, "CEILING", pb.Ceiling.items())


def vantage_to_wire(vantage: Vantage) -> pb.Vantage:
    """The message of a vantage."""
    return pb.Vantage(
        id=vantage.id,
        ipv4=vantage.ipv4,
        ipv6=vantage.ipv6,
        ipv6_prefix=vantage.ipv6_prefix,
        asn=vantage.asn,
        rir=RIRS.to_wire(vantage.rir),
        latitude=vantage.latitude,
        longitude=vantage.longitude,
        operator=vantage.operator,
    )


def vantage_from_wire(message: pb.Vantage, field: str = "vantage") -> Vantage:
    """The vantage of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    try:
        return Vantage(
            id=VantageId(checks.identifier(f"{field}.id", message.id)),
            ipv4=checks.address(f"{field}.ipv4", message.ipv4) if message.HasField("ipv4") else None,
            ipv6=checks.address(f"{field}.ipv6", message.ipv6) if message.HasField("ipv6") else None,
            ipv6_prefix=checks.prefix(f"{field}.ipv6_prefix", message.ipv6_prefix)
            if message.HasField("ipv6_prefix")
            else None,
            asn=checks.number(f"{field}.asn", message.asn, 1, _MAX_COUNT),
            rir=RIRS.from_wire(f"{field}.rir", message.rir),
            latitude=checks.real(f"{field}.latitude", message.latitude, -90, 90),
            longitude=checks.real(f"{field}.longitude", message.longitude, -180, 180),
            operator=checks.text(f"{field}.operator", message.operator, MAX_OPERATOR),
        )
    except WireError:
        raise
    except ValueError as error:
        raise WireError(field, message.id, str(error)) from error


def perspective_to_wire(perspective: Perspective) -> pb.Perspective:
    """The message of a perspective, witnesses included: for the store, not for people."""
    return pb.Perspective(
        vantage_id=perspective.vantage,
        role=ROLES.to_wire(perspective.role),
        source=perspective.source,
        asn=perspective.asn,
        rir=RIRS.to_wire(perspective.rir),
    )


def perspective_from_wire(message: pb.Perspective, field: str = "perspective") -> Perspective:
    """The perspective of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    return Perspective(
        vantage=VantageId(checks.identifier(f"{field}.vantage_id", message.vantage_id)),
        role=ROLES.from_wire(f"{field}.role", message.role),
        source=checks.source(f"{field}.source", message.source),
        asn=checks.number(f"{field}.asn", message.asn, 1, _MAX_COUNT),
        rir=RIRS.from_wire(f"{field}.rir", message.rir),
    )


def path_to_wire(path: Path) -> pb.Path:
    """The message of a path."""
    return pb.Path(
        asked=path.asked,
        answered=path.answered,
        prefix_limited=path.prefix_limited,
        answered_until_ns=path.answered_until_ns,
        watched=path.watched,
        unasked=path.unasked,
    )


def path_from_wire(message: pb.Path, field: str = "path") -> Path:
    """The path of a message.

    Raises:
        WireError: more answers than questions, or no time.
    """
    until_ns = checks.number(f"{field}.answered_until_ns", message.answered_until_ns, 0, checks.MAX_TIME_NS)
    return Path(
        asked=message.asked,
        answered=checks.number(f"{field}.answered", message.answered, 0, message.asked),
        prefix_limited=message.prefix_limited,
        answered_until_ns=until_ns,
        watched=message.watched,
        unasked=message.unasked,
    )


def challenge_to_wire(challenge: Challenge) -> pb.Challenge:
    """The message of a challenge."""
    return pb.Challenge(
        method=METHODS.to_wire(challenge.method),
        variant=VARIANTS.to_wire(challenge.variant),
        rows=[
            pb.Row(
                perspective=perspective_to_wire(row.perspective),
                kind=KINDS.to_wire(row.kind),
                expected=map(EXPECTATIONS.to_wire, row.expected),
                path=path_to_wire(row.path),
                refusal=None if row.refusal is None else REFUSALS.to_wire(row.refusal),
                neighbour=row.neighbour,
            )
            for row in challenge.rows
        ],
        aim=ASSURANCES.to_wire(challenge.aim),
    )


def challenge_from_wire(message: pb.Challenge, field: str = "challenge") -> Challenge:
    """The challenge of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    checks.length(f"{field}.rows", message.rows, MAX_ROWS, 1)
    for index, row in enumerate(message.rows):
        windows = len(message.rows[0].expected)
        checks.length(f"{field}.rows[{index}].expected", row.expected, windows, windows)
    return Challenge(
        method=METHODS.from_wire(f"{field}.method", message.method),
        variant=VARIANTS.from_wire(f"{field}.variant", message.variant),
        rows=tuple(_row_from_wire(row, f"{field}.rows[{index}]") for index, row in enumerate(message.rows)),
        aim=ASSURANCES.from_wire(f"{field}.aim", message.aim),
    )


def _row_from_wire(message: pb.Row, field: str) -> Row:
    checks.present(field, message, "perspective")
    checks.present(field, message, "path")
    checks.length(f"{field}.expected", message.expected, _MAX_WINDOWS, 1)
    return Row(
        perspective=perspective_from_wire(message.perspective, f"{field}.perspective"),
        kind=KINDS.from_wire(f"{field}.kind", message.kind),
        expected=tuple(EXPECTATIONS.from_wire(f"{field}.expected", number) for number in message.expected),
        path=path_from_wire(message.path, f"{field}.path"),
        refusal=REFUSALS.from_wire(f"{field}.refusal", message.refusal) if message.HasField("refusal") else None,
        neighbour=checks.prefix(f"{field}.neighbour", message.neighbour) if message.neighbour else "",
    )


def round_to_wire(fired: Round) -> pb.Round:
    """The message of a round."""
    return pb.Round(number=fired.number, window=fired.window, start_at_ns=fired.start_at_ns, leased=fired.leased)


def round_from_wire(message: pb.Round, field: str = "round") -> Round:
    """The round of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    checks.length(f"{field}.leased", message.leased, MAX_ROWS)
    leased = tuple(checks.number(f"{field}.leased[{i}]", row, 0, MAX_ROWS - 1) for i, row in enumerate(message.leased))
    return Round(message.number, message.window, checks.time_ns(f"{field}.start_at_ns", message.start_at_ns), leased)


def observation_to_wire(seen: Observation) -> pb.Observation:
    """The message of an observation."""
    return pb.Observation(
        row=seen.row,
        round=seen.round,
        outcome=OUTCOMES.to_wire(seen.outcome),
        source=seen.source,
        sent_at_ns=seen.sent_at_ns,
        received_at_ns=seen.received_at_ns,
        packet=seen.packet,
        watched=seen.watched,
        unasked=map(unasked_to_wire, seen.unasked),
        unasked_total=seen.unasked_total,
        refusal=None if seen.refusal is None else REFUSALS.to_wire(seen.refusal),
        neighbour_answered=seen.neighbour_answered,
    )


def observation_from_wire(message: pb.Observation, field: str = "observation") -> Observation:
    """The observation of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    return Observation(
        row=checks.number(f"{field}.row", message.row, 0, MAX_ROWS - 1),
        round=message.round,
        outcome=OUTCOMES.from_wire(f"{field}.outcome", message.outcome),
        source=checks.source(f"{field}.source", message.source) if message.source else "",
        sent_at_ns=checks.number(f"{field}.sent_at_ns", message.sent_at_ns, 0, checks.MAX_TIME_NS),
        received_at_ns=checks.number(f"{field}.received_at_ns", message.received_at_ns, 0, checks.MAX_TIME_NS),
        packet=checks.octets(f"{field}.packet", message.packet, MAX_PAYLOAD_BYTES),
        watched=message.watched,
        unasked=unasked_from_wire(message.unasked, f"{field}.unasked", MAX_SIGHTED),
        unasked_total=message.unasked_total,
        refusal=REFUSALS.from_wire(f"{field}.refusal", message.refusal) if message.HasField("refusal") else None,
        neighbour_answered=message.neighbour_answered,
    )


def tally_to_wire(tally: Tally) -> pb.Tally:
    """The message of a tally."""
    return pb.Tally(
        rounds=tally.rounds,
        counted=tally.counted,
        monitors_answered=tally.monitors_answered,
        monitors=tally.monitors,
        silent=tally.silent,
        must_be_silent=tally.must_be_silent,
        rirs=tally.rirs,
        evidence=tally.evidence,
        unforgeable=tally.unforgeable,
        needed=tally.needed,
        bound=tally.bound,
    )


def tally_from_wire(message: pb.Tally, field: str = "tally") -> Tally:
    """The tally of a message.

    Raises:
        WireError: a number that is none, or a chance outside of 0..1.
    """
    return Tally(
        rounds=message.rounds,
        counted=message.counted,
        monitors_answered=message.monitors_answered,
        monitors=message.monitors,
        silent=message.silent,
        must_be_silent=message.must_be_silent,
        rirs=message.rirs,
        evidence=checks.real(f"{field}.evidence", message.evidence, -checks.MOST, checks.MOST),
        unforgeable=checks.real(f"{field}.unforgeable", message.unforgeable, -checks.MOST, checks.MOST),
        needed=checks.real(f"{field}.needed", message.needed, -checks.MOST, checks.MOST),
        bound=checks.real(f"{field}.bound", message.bound, 0, 1),
    )


def verdict_to_wire(verdict: Verdict) -> pb.Verdict:
    """The message of a verdict, witnesses included: for the store, not for people."""
    tally = tally_to_wire(verdict.tally)
    reason = REASONS.to_wire(verdict.reason)
    match verdict:
        case ControlProven():
            proven = pb.ControlProven(
                reason=reason,
                assurance=ASSURANCES.to_wire(verdict.assurance),
                ceiling=CEILINGS.to_wire(verdict.ceiling),
                scope=SCOPES.to_wire(verdict.scope),
                tally=tally,
            )
            return pb.Verdict(proven=proven)
        case ControlRefuted():
            refuted = pb.ControlRefuted(
                reason=reason,
                perspective=perspective_to_wire(verdict.perspective),
                sighting=observation_to_wire(verdict.sighting),
                tally=tally,
            )
            return pb.Verdict(refuted=refuted)
        case Inconclusive():
            about = map(perspective_to_wire, verdict.perspectives)
            return pb.Verdict(inconclusive=pb.Inconclusive(reason=reason, perspectives=about, tally=tally))
        case _:
            assert_never(verdict)


def verdict_from_wire(message: pb.Verdict, field: str = "verdict") -> Verdict:
    """The verdict of a message.

    Raises:
        WireError: it says none of the three, or a field is missing or out of range.
    """
    match message.WhichOneof("verdict"):
        case "proven":
            return _proven_from_wire(message.proven, f"{field}.proven")
        case "refuted":
            return _refuted_from_wire(message.refuted, f"{field}.refuted")
        case "inconclusive":
            return _inconclusive_from_wire(message.inconclusive, f"{field}.inconclusive")
        case None:
            raise WireError(field, None, "give one of proven, refuted and inconclusive")


def _proven_from_wire(message: pb.ControlProven, field: str) -> ControlProven:
    checks.present(field, message, "tally")
    return ControlProven(
        reason=REASONS.from_wire(f"{field}.reason", message.reason),
        assurance=ASSURANCES.from_wire(f"{field}.assurance", message.assurance),
        ceiling=CEILINGS.from_wire(f"{field}.ceiling", message.ceiling),
        scope=SCOPES.from_wire(f"{field}.scope", message.scope),
        tally=tally_from_wire(message.tally, f"{field}.tally"),
    )


def _refuted_from_wire(message: pb.ControlRefuted, field: str) -> ControlRefuted:
    for name in ("perspective", "sighting", "tally"):
        checks.present(field, message, name)
    return ControlRefuted(
        reason=REASONS.from_wire(f"{field}.reason", message.reason),
        perspective=perspective_from_wire(message.perspective, f"{field}.perspective"),
        sighting=observation_from_wire(message.sighting, f"{field}.sighting"),
        tally=tally_from_wire(message.tally, f"{field}.tally"),
    )


def _inconclusive_from_wire(message: pb.Inconclusive, field: str) -> Inconclusive:
    checks.present(field, message, "tally")
    return Inconclusive(
        reason=REASONS.from_wire(f"{field}.reason", message.reason),
        perspectives=_perspectives(message.perspectives, f"{field}.perspectives"),
        tally=tally_from_wire(message.tally, f"{field}.tally"),
    )


def _perspectives(messages: Iterable[pb.Perspective], field: str) -> tuple[Perspective, ...]:
    return tuple(perspective_from_wire(message, f"{field}[{index}]") for index, message in enumerate(messages))
