"""The NTP header codec against itself and against scapy's, and the arithmetic of timestamps against fractions."""

from __future__ import annotations

import socket
import warnings
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poolproof.ntp import (
    HEADER_BYTES,
    UNIX_TO_NTP_S,
    Header,
    PacketTooShortError,
    client_request,
    decode,
    encode,
    from_ntp,
    to_ntp,
)

with warnings.catch_warnings():  # scapy uses names that cryptography has moved
    warnings.simplefilter("ignore")
    from scapy.layers.ntp import NTPHeader

TIMESTAMP = st.integers(0, 2**64 - 1)
SHORT = st.integers(0, 2**32 - 1)
OCTET = st.integers(0, 255)
SIGNED = st.integers(-128, 127)
HEADERS = st.builds(
    Header,
    leap=st.integers(0, 3),
    version=st.integers(0, 7),
    mode=st.integers(0, 7),
    stratum=OCTET,
    poll=SIGNED,
    precision=SIGNED,
    root_delay=SHORT,
    root_dispersion=SHORT,
    refid=st.binary(min_size=4, max_size=4),
    reference=TIMESTAMP,
    origin=TIMESTAMP,
    receive=TIMESTAMP,
    transmit=TIMESTAMP,
)


@given(HEADERS)
def test_scapy_reads_what_we_write(header: Header) -> None:
    fields = NTPHeader(encode(header)).fields  # as on the wire: its attributes are floats and texts for people
    assert (fields["leap"], fields["version"], fields["mode"]) == (header.leap, header.version, header.mode)
    assert fields["stratum"] == header.stratum
    assert (fields["poll"] % 256, fields["precision"] % 256) == (header.poll % 256, header.precision % 256)  # unsigned
    assert (fields["delay"], fields["dispersion"]) == (header.root_delay, header.root_dispersion)
    assert (fields["ref"], fields["orig"]) == (header.reference, header.origin)
    assert (fields["recv"], fields["sent"]) == (header.receive, header.transmit)
    # a kind of clock up to stratum 1, above it an upstream's address
    refid = fields["ref_id"] if header.stratum < 2 else socket.inet_aton(fields["id"])
    assert refid == header.refid


@given(st.binary(min_size=HEADER_BYTES, max_size=200))
def test_whatever_is_read_is_written_again(payload: bytes) -> None:
    assert encode(decode(payload)) == payload[:HEADER_BYTES]


@given(HEADERS)
def test_whatever_is_written_is_read_again(header: Header) -> None:
    assert decode(encode(header)) == header


@given(st.binary(max_size=HEADER_BYTES - 1))
def test_a_short_datagram_is_refused(payload: bytes) -> None:
    with pytest.raises(PacketTooShortError, match=str(len(payload))):
        decode(payload)


@given(st.integers(1, 2**64 - 1), st.integers(1, 7))
def test_a_request_shows_nothing_but_version_mode_and_secret(transmit: int, version: int) -> None:
    request = client_request(transmit, version)
    assert decode(request) == Header(0, version, 3, 0, 0, 0, 0, 0, bytes(4), 0, 0, 0, transmit)
    assert len(request) == HEADER_BYTES


@pytest.mark.parametrize(("transmit", "version"), [(0, 4), (-1, 4), (2**64, 4), (1, 0), (1, 8)])
def test_a_request_that_cannot_be_is_refused(transmit: int, version: int) -> None:
    with pytest.raises(ValueError, match="give"):
        client_request(transmit, version)


@given(
    HEADERS,
    st.sampled_from([("leap", 4), ("version", 8), ("mode", -1), ("stratum", 256), ("poll", 128), ("origin", -1)]),
)
def test_a_field_that_does_not_fit_is_refused(header: Header, wrong: tuple[str, int]) -> None:
    values = {name: getattr(header, name) for name in Header.__slots__}
    with pytest.raises(ValueError, match=str(wrong[1])):
        encode(Header(**(values | dict([wrong]))))


@given(st.integers(-(10**18), 9 * 10**18))
def test_a_time_survives_the_way_there_and_back(unix_ns: int) -> None:
    assert abs(from_ntp(to_ntp(unix_ns), unix_ns + 10**18) - unix_ns) <= 1


@given(TIMESTAMP, st.integers(0, 9 * 10**18))
def test_a_timestamp_means_the_nearest_era(timestamp: int, near_ns: int) -> None:
    read_ns = from_ntp(timestamp, near_ns)
    era_ns = 2**32 * 10**9
    exact = Fraction(timestamp * 10**9, 2**32) - UNIX_TO_NTP_S * 10**9
    assert min((read_ns - exact) % era_ns, (exact - read_ns) % era_ns) <= 1
    assert abs(read_ns - near_ns) <= era_ns // 2 + 1


def test_known_moments() -> None:
    assert to_ntp(0) == UNIX_TO_NTP_S << 32
    assert to_ntp(500_000_000) & 0xFFFF_FFFF == 1 << 31
    era_1_ns = (2**32 - UNIX_TO_NTP_S) * 10**9  # 2036-02-07 06:28:16 UTC
    assert to_ntp(era_1_ns) == 0
    assert from_ntp(0, era_1_ns - 10**9) == era_1_ns
