"""Messages of any protobuf type from bytes: raw as they might come off the wire, or field by field.

Protobuf's own parser is C and tells a fuzzer nothing, so raw bytes seldom get past it to our checks. Field by field,
each byte decides about a field: whether it is there, and whether its value is ordinary, at a limit, or anything. Zeros
mean a message that is there and valid, so that few bytes are enough to spoil it in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from poolproof.wire import WireError
from tests.fuzz.splitter import Splitter

M = TypeVar("M", bound=Message)
V = TypeVar("V")

_TEXTS = ("192.0.2.7", "2001:db8::7", "2001:db8:7::/64", "v01", "verify1/1/baseline/v01", "::ffff:192.0.2.7", "0", "")
_BITS = {
    FieldDescriptor.TYPE_UINT32: (0, 32),
    FieldDescriptor.TYPE_FIXED32: (0, 32),
    FieldDescriptor.TYPE_UINT64: (0, 64),
    FieldDescriptor.TYPE_FIXED64: (0, 64),
    FieldDescriptor.TYPE_SINT64: (63, 64),
    FieldDescriptor.TYPE_INT64: (63, 64),
    FieldDescriptor.TYPE_SFIXED64: (63, 64),
    FieldDescriptor.TYPE_SINT32: (31, 32),
    FieldDescriptor.TYPE_INT32: (31, 32),
}
_REALS = (0.0, 0.5, -1.0, 90.0, 1e-6, 1e300, -1e301, float("inf"), float("nan"))
_ORDINARY = (1, 2, 123, 1_500_000_000, 1_794_000_000_000_000_000, 0, 4)


@dataclass(frozen=True, slots=True)
class Words:
    """What ordinary values look like, by the field's name; for fields that are not named, by its type.

    Attributes:
        values: some good values of a field, of which the search takes most; by `name` or `Message.name`.
    """

    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


def message(kind: type[M], split: Splitter, words: Words) -> M:
    """A message of that type.

    Raises:
        DecodeError: raw bytes that are none.
    """
    if split.below(4) == 3:
        return kind.FromString(split.rest())
    return _filled(kind, split, words, 5)


def _filled(kind: type[M], split: Splitter, words: Words, depth: int) -> M:
    made = kind()
    chosen = {each.name: split.pick([*each.fields, None]) for each in kind.DESCRIPTOR.oneofs}
    for each in kind.DESCRIPTOR.fields:
        described = cast(FieldDescriptor, each)
        oneof = described.containing_oneof
        if (oneof is not None and chosen[oneof.name] is not described) or split.below(16) == 15:
            continue
        _fill(made, described, split, words, depth)
    return made


def _fill(made: Message, described: FieldDescriptor, split: Splitter, words: Words, depth: int) -> None:
    name, inner = described.name, described.message_type
    if inner is not None and inner.GetOptions().map_entry:
        for _ in range(split.below(3)):
            getattr(made, name)[split.text(12)] = split.text(12)
    elif inner is not None:
        if depth == 0:
            return
        kind = GetMessageClass(inner)
        if described.is_repeated:
            getattr(made, name).extend(_filled(kind, split, words, depth - 1) for _ in range(_entries(split)))
        else:
            getattr(made, name).CopyFrom(_filled(kind, split, words, depth - 1))
    elif described.is_repeated:
        getattr(made, name).extend(_scalar(described, split, words) for _ in range(_entries(split)))
    else:
        setattr(made, name, _scalar(described, split, words))


def _entries(split: Splitter) -> int:
    """How many entries a list has; one, mostly."""
    return (split.below(8) + 1) % 4


def _scalar(described: FieldDescriptor, split: Splitter, words: Words) -> Any:
    if described.type == FieldDescriptor.TYPE_BOOL:
        return split.flag()
    owner = described.containing_type.name if described.containing_type is not None else ""
    named = words.values.get(f"{owner}.{described.name}", words.values.get(described.name))
    if named is not None and split.below(8) != 7:
        return split.pick(named)
    match described.type:
        case FieldDescriptor.TYPE_ENUM:
            assert described.enum_type is not None
            known = [value.number for value in described.enum_type.values]
            return split.pick([*known[1:], 0]) if split.below(8) != 7 else split.number(4) - (1 << 31)
        case FieldDescriptor.TYPE_DOUBLE:
            return split.pick(_REALS)
        case FieldDescriptor.TYPE_STRING:
            return split.pick(_TEXTS) if split.below(4) != 3 else split.text(40)
        case FieldDescriptor.TYPE_BYTES:
            return split.pick((bytes(16), bytes(range(48)), bytes(8), b"", bytes(2049), split.octets(60)))
    below, bits = _BITS[described.type]
    if split.below(4) != 3:
        return split.pick(_ORDINARY) & ((1 << 31) - 1 if bits == 32 else (1 << 63) - 1)
    return max(
        -(1 << below) if below else 0, min(split.number(bits // 8) - (1 << below if below else 0), (1 << bits) - 1)
    )


def round_trip(made: Callable[[], M], from_wire: Callable[[M], V], to_wire: Callable[[V], Message]) -> str:
    """A message says one valid thing, which goes to the wire and back unchanged, or it is refused by a field's name."""
    try:
        value = from_wire(made())
    except DecodeError:
        return "no message"
    except WireError as error:
        assert error.field in str(error)
        assert len(str(error)) < 1_000, "a refusal must not repeat what it refuses at length"
        return "refused"
    sent = cast(M, to_wire(value))
    assert from_wire(type(sent).FromString(sent.SerializeToString())) == value
    return "taken"
