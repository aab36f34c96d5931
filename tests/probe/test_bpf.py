"""The assembler's programs are what the kernel runs, and programs that it would not take are refused."""

from __future__ import annotations

import re

import pytest

from probe.bpf import (
    Label,
    Line,
    accept,
    assemble,
    drop,
    go_to,
    if_any_bit,
    if_equal,
    load_byte,
    load_byte_after_x,
    load_half,
    load_half_after_x,
    load_word,
    load_word_after_x,
    mask,
    x_from_header_length,
)
from tests.probe.kernel_filter import passed

PACKET = bytes.fromhex("46 01 0203 04050607") + bytes(range(8, 40))


def takes(*lines: Line) -> bool:
    return passed(assemble(lines), PACKET) is not None


@pytest.mark.parametrize(
    ("load", "value"),
    [
        (load_byte(1), 0x01),
        (load_half(2), 0x0203),
        (load_word(4), 0x04050607),
        (load_byte_after_x(1), 25),
        (load_half_after_x(2), 0x1A1B),
        (load_word_after_x(4), 0x1C1D1E1F),
    ],
)
def test_loads_are_big_endian_and_x_is_the_length_of_an_ipv4_header(load: Line, value: int) -> None:
    for wanted in (value, value + 1):
        verdict = takes(
            x_from_header_length(0),
            load,
            if_equal(wanted, yes="take"),
            drop(),
            Label("take"),
            accept(512),
        )
        assert verdict is (wanted == value)


def test_masks_bits_and_jumps_decide() -> None:
    assert takes(load_byte(0), mask(0xF0), if_equal(0x40, no="drop"), accept(512), Label("drop"), drop())
    assert takes(load_byte(0), if_any_bit(0x04, no="drop"), accept(512), Label("drop"), drop())
    assert not takes(load_byte(0), if_any_bit(0x01, no="drop"), accept(512), Label("drop"), drop())
    assert not takes(go_to("drop"), accept(512), Label("drop"), drop())


def test_what_is_taken_is_cut() -> None:
    assert passed(assemble([accept(9)]), PACKET) == PACKET[:9]


def test_a_load_beyond_the_packet_drops_it() -> None:
    assert not takes(load_word(len(PACKET) - 3), accept(512))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "0 instructions"),
        ([accept(1)] * 4097, "4097 instructions"),
        ([go_to("nowhere"), accept(1)], "no label 'nowhere'"),
        ([Label("a"), Label("a"), accept(1)], "label 'a' is given twice"),
        ([Label("back"), accept(1), go_to("back")], "label 'back' is -2 instructions ahead"),
        ([go_to("far"), *[accept(1)] * 256, Label("far"), drop()], "label 'far' is 256 instructions ahead"),
        ([go_to("end"), Label("end")], "label 'end' is 0 instructions ahead; 0 to 255, before the end"),
    ],
)
def test_what_the_kernel_would_refuse_is_refused_with_the_reason(lines: list[Line], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        assemble(lines)


def test_the_longest_jump_is_taken() -> None:
    assert takes(go_to("far"), *[drop()] * 255, Label("far"), accept(1))
