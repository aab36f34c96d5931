"""Whether a report is one of the job that it names."""

from __future__ import annotations

from collections.abc import Sequence

from poolproof.ids import VantageId
from poolproof.job import Report
from poolproof.target import Target, within
from poolproof.verification import Foreign, ForeignReportError


def check(report: Report, vantage: VantageId, sources: Sequence[str], target: Target) -> None:
    """A probe that mixes things up must not make another server's silence evidence against this one.

    Args:
        report: of a job.
        vantage: who was asked.
        sources: for each step of the job the address, or the prefix, that it was asked to send from.
        target: what was asked.

    Raises:
        ForeignReportError: it is not.
    """
    if report.vantage != vantage:
        raise ForeignReportError(
            Foreign.OTHER_VANTAGE,
            f"report {report.job}: came from vantage {report.vantage}, was asked of {vantage}",
        )
    if len(report.exchanges) != len(sources):
        raise ForeignReportError(
            Foreign.OTHER_TARGET,
            f"report {report.job}: accounts for {len(report.exchanges)} exchanges, the job has {len(sources)}",
        )
    for exchange, source in zip(report.exchanges, sources, strict=True):
        if (exchange.destination, exchange.port) != (target.address, target.port):
            raise ForeignReportError(
                Foreign.OTHER_TARGET,
                f"report {report.job}: has an exchange with {exchange.destination} port {exchange.port}, was asked for"
                f" {target.address} port {target.port}",
            )
        if not within(exchange.source, source):
            raise ForeignReportError(
                Foreign.OTHER_TARGET,
                f"report {report.job}: has an exchange from {exchange.source}, was asked for one from {source}",
            )
