"""Where the coordinator's records are in the store, and what is in them.

verification/<id>                  the state machine, as bytes
open/<id>                          there as long as the verification is open
newest/<time, inverted>/<id>       all verifications, the newest first
calibrated/<time, inverted>/<id>   all calibrations, the newest first
target/<address>/<port>            a target's standing over all its verifications
conduct/<vantage>                  what calibrations say of a vantage, and its quarantine
report/<verification>/<attempt>/<round or baseline>/<vantage>    a probe's report as it came
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coordinator.store.port import MAX_PAGE_ENTRIES, Compare, Entry, Put, Store, pages
from poolproof.conduct import Conduct
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.standing import Standing
from poolproof.target import Target
from poolproof.verification import Purpose, Verification
from poolproof.wire import from_record, to_record
from poolproof.wire.conduct import to_conduct_record
from poolproof.wire.standing import from_standing_record, to_standing_record

VERIFICATIONS = "verification/"
OPEN = "open/"
NEWEST = "newest/"
CALIBRATED = "calibrated/"
REPORTS = "report/"
CONDUCTS = "conduct/"
_ID = re.compile(r"[0-9a-z]{1,64}")
"""What an id of ours looks like; anything else that is asked for does not exist."""
_END_OF_TIME_NS = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Held:
    """A verification as the store has it.

    Attributes:
        verification: the value.
        revision: which write it is; counts up with each change.
    """

    verification: Verification
    revision: int


@dataclass(frozen=True, slots=True)
class HeldStanding:
    """A target's standing as the store has it; revision 0: it has none yet."""

    standing: Standing
    revision: int


@dataclass(frozen=True, slots=True)
class Listed:
    """Ids in the order of a list, and where it goes on."""

    ids: tuple[VerificationId, ...]
    keys: tuple[str, ...]
    more: bool


def verification_key(verification: VerificationId) -> str:
    """Of the state machine."""
    return VERIFICATIONS + verification


def standing_key(target: Target) -> str:
    """Of the target's standing."""
    return f"target/{target.address}/{target.port}"


def report_key(job: JobId) -> str:
    """Of one raw report; a job id is <verification>/<attempt>/<round or baseline>/<vantage>."""
    return REPORTS + job


def held_of(entry: Entry) -> Held:
    """What an entry below `verification/` holds."""
    return Held(from_record(entry.value), entry.mod_revision)


async def load(store: Store, verification: VerificationId) -> Held | None:
    """A verification, or None if there is none."""
    if not _ID.fullmatch(verification):
        return None
    entry = await store.get(verification_key(verification))
    return None if entry is None else held_of(entry)


async def load_standing(store: Store, target: Target) -> HeldStanding:
    """A target's standing."""
    entry = await store.get(standing_key(target))
    if entry is None:
        return HeldStanding(Standing(target), 0)
    return HeldStanding(from_standing_record(entry.value), entry.mod_revision)


async def open_ids(store: Store) -> tuple[VerificationId, ...]:
    """All open verifications."""
    found: list[VerificationId] = []
    async for page in pages(store, OPEN):
        found += [VerificationId(entry.key.removeprefix(OPEN)) for entry in page.entries]
    return tuple(found)


async def newest_ids(store: Store, after: str, limit: int) -> Listed:
    """Ids of the verifications requested last, from `after` (a key of the last list, or empty) on."""
    return await _listed(store, NEWEST, after, limit)


async def newest_calibrations(store: Store, limit: int) -> tuple[VerificationId, ...]:
    """Ids of the calibrations begun last."""
    return (await _listed(store, CALIBRATED, "", limit)).ids


async def _listed(store: Store, prefix: str, after: str, limit: int) -> Listed:
    page = await store.scan(prefix, after=after, limit=min(limit, MAX_PAGE_ENTRIES))
    keys = tuple(entry.key for entry in page.entries)
    return Listed(tuple(VerificationId(key.rpartition("/")[2]) for key in keys), keys, page.more)


def creation(verification: Verification) -> tuple[tuple[Compare, ...], tuple[Put, ...]]:
    """Conditions and extra writes for a verification that is new. Calibrations have a list of their own."""
    inverted = _END_OF_TIME_NS - verification.requested_at_ns
    listed = CALIBRATED if verification.purpose is Purpose.CALIBRATION else NEWEST
    key = f"{listed}{inverted:019d}/{verification.id}"
    return (Compare(verification_key(verification.id), 0),), (Put(key, b""),)


def change(before: Verification | None, after: Verification) -> tuple[tuple[Put, ...], tuple[str, ...]]:
    """Writes and deletes that replace one state by the next."""
    puts = [Put(verification_key(after.id), to_record(after))]
    was_open = before is not None and before.state.is_open
    if after.state.is_open and not was_open:
        puts.append(Put(OPEN + after.id, b""))
    return tuple(puts), (OPEN + after.id,) if was_open and not after.state.is_open else ()


def standing_put(standing: Standing) -> Put:
    """The write of a target's standing."""
    return Put(standing_key(standing.target), to_standing_record(standing))


def conduct_key(vantage: VantageId) -> str:
    """Of a vantage's conduct."""
    return CONDUCTS + vantage


def conduct_put(conduct: Conduct) -> Put:
    """The write of a vantage's conduct."""
    return Put(conduct_key(conduct.vantage), to_conduct_record(conduct))
