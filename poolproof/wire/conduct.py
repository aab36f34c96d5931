"""A vantage's conduct on the wire and in the store (proto/poolproof/v1/conduct.proto): lossless, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError

from poolproof.calibration import Stratum
from poolproof.catching import Chance
from poolproof.conduct import MAX_NOTE, MAX_RELEASES, Conduct, Counts, Quarantine, QuarantineReason, Release
from poolproof.ids import VantageId, VerificationId
from poolproof.policy import Policy
from poolproof.v1 import conduct_pb2 as pb
from poolproof.v1 import verification_pb2 as api
from poolproof.wire import checks
from poolproof.wire.checks import WireError

STRATA: Final = checks.EnumNames(Stratum, "STRATUM", pb.Stratum.items())
QUARANTINE_REASONS: Final = checks.EnumNames(QuarantineReason, "QUARANTINE_REASON", pb.QuarantineReason.items())
_MOST: Final = (1 << 32) - 1


def to_conduct_record(conduct: Conduct) -> bytes:
    """The bytes that the store keeps."""
    return conduct_to_wire(conduct).SerializeToString(deterministic=True)


def from_conduct_record(record: bytes) -> Conduct:
    """The conduct that the store kept.

    Raises:
        WireError: the bytes are no record, or one that this version cannot have written.
    """
    try:
        return conduct_from_wire(pb.ConductRecord.FromString(record))
    except DecodeError as error:
        raise WireError("conduct", record[:16], f"is no conduct record ({error})") from error


def conduct_to_wire(conduct: Conduct) -> pb.ConductRecord:
    """The message of a conduct."""
    return pb.ConductRecord(
        vantage_id=conduct.vantage,
        calibrations=conduct.calibrations,
        counts=[
            pb.StratumCounts(stratum=STRATA.to_wire(stratum), trials=counts.trials, failures=counts.failures)
            for stratum, counts in conduct.counts.items()
            if counts.trials
        ],
        quarantine=None if conduct.quarantine is None else quarantine_to_wire(conduct.quarantine),
        releases=[
            pb.Release(
                released_at_ns=each.released_at_ns, reason=each.reason, quarantine=quarantine_to_wire(each.quarantine)
            )
            for each in conduct.releases
        ],
    )


def conduct_from_wire(message: pb.ConductRecord, field: str = "conduct") -> Conduct:
    """The conduct of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    checks.length(f"{field}.releases", message.releases, MAX_RELEASES)
    counts = dict.fromkeys(Stratum, Counts())
    for index, each in enumerate(message.counts):
        where = f"{field}.counts[{index}]"
        trials = checks.number(f"{where}.trials", each.trials, 1, _MOST)
        failures = checks.number(f"{where}.failures", each.failures, 0, trials)
        counts[STRATA.from_wire(f"{where}.stratum", each.stratum)] = Counts(trials, failures)
    held = message.HasField("quarantine")
    return Conduct(
        vantage=VantageId(checks.identifier(f"{field}.vantage_id", message.vantage_id)),
        calibrations=message.calibrations,
        counts=MappingProxyType(counts),
        quarantine=quarantine_from_wire(message.quarantine, f"{field}.quarantine") if held else None,
        releases=tuple(
            _release_from_wire(each, f"{field}.releases[{index}]") for index, each in enumerate(message.releases)
        ),
    )


def quarantine_to_wire(quarantine: Quarantine) -> pb.Quarantine:
    """The message of a quarantine."""
    return pb.Quarantine(
        reason=QUARANTINE_REASONS.to_wire(quarantine.reason),
        since_ns=quarantine.since_ns,
        calibration_id=quarantine.calibration,
        evidence=quarantine.evidence,
    )


def quarantine_from_wire(message: pb.Quarantine, field: str = "quarantine") -> Quarantine:
    """The quarantine of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    return Quarantine(
        reason=QUARANTINE_REASONS.from_wire(f"{field}.reason", message.reason),
        since_ns=checks.time_ns(f"{field}.since_ns", message.since_ns),
        calibration=VerificationId(checks.identifier(f"{field}.calibration_id", message.calibration_id)),
        evidence=checks.text(f"{field}.evidence", message.evidence, MAX_NOTE),
    )


def vantage_conduct_to_wire(conduct: Conduct, policy: Policy) -> api.VantageConduct:
    """What operators see of one vantage's conduct."""
    return api.VantageConduct(
        conduct=conduct_to_wire(conduct),
        evidence=[
            api.StratumEvidence(stratum=STRATA.to_wire(stratum), evidence=conduct.evidence(stratum, policy))
            for stratum in Stratum
        ],
    )


def chances_to_wire(chances: Iterable[Chance]) -> Iterator[api.CatchChance]:
    """The table of how soon liars are caught."""
    for each in chances:
        yield api.CatchChance(lie=each.lie.value, rate=each.rate, jobs=each.jobs, chance=each.chance)


def _release_from_wire(message: pb.Release, field: str) -> Release:
    checks.present(field, message, "quarantine")
    return Release(
        released_at_ns=checks.time_ns(f"{field}.released_at_ns", message.released_at_ns),
        reason=checks.text(f"{field}.reason", message.reason, MAX_NOTE, 1),
        quarantine=quarantine_from_wire(message.quarantine, f"{field}.quarantine"),
    )
