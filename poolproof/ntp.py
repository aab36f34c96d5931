"""The NTP header, on the wire and as a value (RFC 5905 §7.3).

Only what poolproof needs: a 48-byte client request whose transmit timestamp is 64 random bits, and the header of
whatever came back. Timestamps stay 64-bit integers: a float would lose up to 155 ns.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER_BYTES = 48
UNIX_TO_NTP_S = 2_208_988_800
"""Seconds from the NTP era 0 epoch (1900) to the Unix epoch (RFC 5905 §6, figure 4)."""

_PACKED = struct.Struct("!BBbbII4sQQQQ")


class PacketTooShortError(ValueError):
    """A datagram shorter than the 48-byte header."""


@dataclass(frozen=True, slots=True)
class Header:
    """The 48-byte header; timestamps and short formats as unsigned integers in wire order.

    Attributes:
        leap: 0..3; 3 says that the clock is unsynchronised (RFC 5905 figure 9).
        version: 0..7.
        mode: 0..7. RFC 5905 §3's prose swaps modes 3 and 4 against figure 10; figure 10 is right: 3 client, 4 server.
        stratum: 0..255; 0 is unspecified or a kiss code, 16 unsynchronised.
        poll: log2 seconds, signed.
        precision: log2 seconds, signed.
        root_delay: NTP short format, 2^-16 s.
        root_dispersion: NTP short format, 2^-16 s.
        refid: four octets.
        reference, origin, receive, transmit: NTP timestamps, 2^-32 s since 1900.
    """

    leap: int
    version: int
    mode: int
    stratum: int
    poll: int
    precision: int
    root_delay: int
    root_dispersion: int
    refid: bytes
    reference: int
    origin: int
    receive: int
    transmit: int


def decode(payload: bytes) -> Header:
    """The header of a datagram; anything after 48 bytes (extensions, MAC) is left aside.

    Raises:
        PacketTooShortError: fewer than 48 bytes.
    """
    if len(payload) < HEADER_BYTES:
        raise PacketTooShortError(f"an NTP header has {HEADER_BYTES} bytes, this datagram has {len(payload)}")
    (first, stratum, poll, precision, root_delay, root_dispersion, refid, reference, origin, receive, transmit) = (
        _PACKED.unpack_from(payload)
    )
    return Header(
        leap=first >> 6,
        version=(first >> 3) & 7,
        mode=first & 7,
        stratum=stratum,
        poll=poll,
        precision=precision,
        root_delay=root_delay,
        root_dispersion=root_dispersion,
        refid=refid,
        reference=reference,
        origin=origin,
        receive=receive,
        transmit=transmit,
    )


def encode(header: Header) -> bytes:
    """The 48 bytes of a header.

    Raises:
        ValueError: a field does not fit its width on the wire.
    """
    if not (0 <= header.leap <= 3 and 0 <= header.version <= 7 and 0 <= header.mode <= 7):
        raise ValueError(
            f"leap {header.leap}, version {header.version}, mode {header.mode}: out of range 0-3, 0-7, 0-7"
        )
    try:
        return _PACKED.pack(
            header.leap << 6 | header.version << 3 | header.mode,
            header.stratum,
            header.poll,
            header.precision,
            header.root_delay,
            header.root_dispersion,
            header.refid,
            header.reference,
            header.origin,
            header.receive,
            header.transmit,
        )
    except struct.error as error:
        raise ValueError(f"a field of {header} does not fit its width: {error}") from error


def client_request(transmit: int, version: int = 4) -> bytes:
    """A mode 3 request that gives nothing away: all fields zero but version, mode and transmit timestamp.

    Args:
        transmit: 64 random bits, echoed by an honest server as its origin timestamp. Not the time: that is what makes
            an answer impossible to forge without seeing the request (RFC 9109 is about ports; this is
            draft-ietf-ntp-data-minimization §4).
        version: protocol version, 1..7.

    Raises:
        ValueError: a value out of range; zero, because a zero origin means "no origin" (RFC 5905 §8).
    """
    if not 0 < transmit < 1 << 64:
        raise ValueError(f"transmit {transmit}: give 64 random bits, not zero")
    if not 1 <= version <= 7:
        raise ValueError(f"version {version}: give 1 to 7")
    return bytes((version << 3 | 3,)) + bytes(39) + transmit.to_bytes(8, "big")


def to_ntp(unix_ns: int) -> int:
    """An NTP timestamp (2^-32 s since 1900, era folded) from nanoseconds since the Unix epoch."""
    seconds, nanoseconds = divmod(unix_ns, 1_000_000_000)
    return ((seconds + UNIX_TO_NTP_S) << 32 | (nanoseconds << 32) // 1_000_000_000) & 0xFFFF_FFFF_FFFF_FFFF


def from_ntp(timestamp: int, near_unix_ns: int) -> int:
    """Nanoseconds since the Unix epoch, in the era that lies nearest to `near_unix_ns` (RFC 5905 §6)."""
    ahead = (timestamp - to_ntp(near_unix_ns)) & 0xFFFF_FFFF_FFFF_FFFF
    signed = ahead - (1 << 64) if ahead >> 63 else ahead
    return near_unix_ns + (signed * 1_000_000_000 >> 32)
