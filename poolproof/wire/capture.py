"""What a tripwire caught, on the wire (proto/poolproof/v1/evidence.proto)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from poolproof.capture import MAX_UNASKED, MAX_UNASKED_BYTES, Capture, UnaskedKind, UnaskedPacket
from poolproof.v1 import evidence_pb2 as pb
from poolproof.wire import checks
from poolproof.wire.checks import WireError

_KINDS: Final = checks.EnumNames(UnaskedKind, "UNASKED_KIND", pb.UnaskedKind.items())
_MAX_COUNT: Final = (1 << 63) - 1


def capture_to_wire(capture: Capture) -> pb.Capture:
    """The message of a capture."""
    return pb.Capture(
        since_ns=capture.since_ns,
        until_ns=capture.until_ns,
        unasked=map(unasked_to_wire, capture.unasked),
        unasked_total=capture.unasked_total,
        lost=capture.lost,
    )


def capture_from_wire(message: pb.Capture, field: str = "capture") -> Capture:
    """The capture of a message.

    Raises:
        WireError: a field is missing or out of range, it ends before it begins, or does not show what it
            counts.
    """
    since_ns = checks.time_ns(f"{field}.since_ns", message.since_ns)
    unasked = unasked_from_wire(message.unasked, f"{field}.unasked", MAX_UNASKED)
    if message.unasked_total and not unasked:
        raise WireError(
            f"{field}.unasked", "0 entries", f"show the first of the {message.unasked_total} that it counts"
        )
    return Capture(
        since_ns=since_ns,
        until_ns=checks.number(f"{field}.until_ns", message.until_ns, since_ns, checks.MAX_TIME_NS),
        unasked=unasked,
        unasked_total=checks.number(f"{field}.unasked_total", message.unasked_total, len(unasked), _MAX_COUNT),
        lost=checks.number(f"{field}.lost", message.lost, 0, _MAX_COUNT),
    )


def unasked_to_wire(packet: UnaskedPacket) -> pb.UnaskedPacket:
    """The message of an unasked packet."""
    return pb.UnaskedPacket(
        kind=_KINDS.to_wire(packet.kind),
        received_at_ns=packet.received_at_ns,
        sender=packet.sender,
        destination=packet.destination,
        payload=packet.payload,
    )


def unasked_from_wire(messages: Iterable[pb.UnaskedPacket], field: str, most: int) -> tuple[UnaskedPacket, ...]:
    """The unasked packets of messages, at most so many.

    Raises:
        WireError: too many, or a field is missing or out of range.
    """
    packets = tuple(_unasked_from_wire(message, f"{field}[{index}]") for index, message in enumerate(messages))
    if len(packets) > most:
        raise WireError(field, f"{len(packets)} entries", f"give 0 to {most}")
    return packets


def _unasked_from_wire(message: pb.UnaskedPacket, field: str) -> UnaskedPacket:
    return UnaskedPacket(
        kind=_KINDS.from_wire(f"{field}.kind", message.kind),
        received_at_ns=checks.time_ns(f"{field}.received_at_ns", message.received_at_ns),
        sender=checks.address(f"{field}.sender", message.sender),
        destination=checks.address(f"{field}.destination", message.destination),
        payload=checks.octets(f"{field}.payload", message.payload, MAX_UNASKED_BYTES),
    )
