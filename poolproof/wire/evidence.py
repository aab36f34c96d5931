"""Jobs and reports on the wire (proto/poolproof/v1/evidence.proto)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError

from poolproof.exchange import Exchange, ExchangeKind, IcmpError, LocalFault, Reply
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.job import MAX_STEPS, MAX_TICKET_BYTES, ClockCheck, Job, Report, Step
from poolproof.target import Target
from poolproof.v1 import evidence_pb2 as pb
from poolproof.wire import checks
from poolproof.wire.capture import capture_from_wire, capture_to_wire
from poolproof.wire.checks import WireError

MAX_PAYLOAD_BYTES: Final = 2048
"""More of a datagram than this is not kept."""
MAX_REPLIES: Final = 64
"""More datagrams, or ICMP errors, than this for one exchange are not kept."""
MAX_FAULT_DETAIL: Final = 1024
"""Characters of an exchange's `fault_detail`."""
MAX_OFFSET_NS: Final = 3_600_000_000_000
MAX_TIMEOUT_NS: Final = 60_000_000_000
MAX_SOURCE_SLOT: Final = 65_535

KINDS: Final = checks.EnumNames(ExchangeKind, "EXCHANGE_KIND", pb.ExchangeKind.items())
_FAULTS: Final = checks.EnumNames(LocalFault, "LOCAL_FAULT", pb.LocalFault.items())


def target_to_wire(target: Target) -> pb.Target:
    """The message of a target."""
    return pb.Target(address=target.address, port=target.port)


def target_from_wire(message: pb.Target, field: str = "target") -> Target:
    """The target of a message.

    Raises:
        WireError: not a canonical address, or no such port.
    """
    address = checks.address(f"{field}.address", message.address)
    return Target(address, checks.number(f"{field}.port", message.port, 1, 65_535))


def job_to_wire(job: Job) -> pb.Job:
    """The message of a job."""
    return pb.Job(
        id=job.id,
        verification_id=job.verification,
        vantage_id=job.vantage,
        target=target_to_wire(job.target),
        source=job.source,
        start_at_ns=job.start_at_ns,
        steps=[
            pb.Step(
                kind=KINDS.to_wire(step.kind),
                offset_ns=step.offset_ns,
                source_slot=step.source_slot,
                source=step.source,
            )
            for step in job.steps
        ],
        timeout_ns=job.timeout_ns,
        linger_ns=job.linger_ns,
        traceparent=job.traceparent,
        watch_until_ns=job.watch_until_ns,
        ticket=job.ticket,
    )


def job_from_wire(message: pb.Job, field: str = "job") -> Job:
    """The job of a message.

    Raises:
        WireError: a field is missing or out of range, or the steps are out of order.
    """
    checks.present(field, message, "target")
    target = target_from_wire(message.target, f"{field}.target")
    source = checks.source(f"{field}.source", message.source)
    if (":" in source) != (":" in target.address):
        raise WireError(f"{field}.source", source, f"give one of the family of the target, {target.address}")
    checks.length(f"{field}.steps", message.steps, MAX_STEPS, 1)
    steps = tuple(_step_from_wire(step, f"{field}.steps[{index}]") for index, step in enumerate(message.steps))
    for index in range(1, len(steps)):
        if steps[index].offset_ns < steps[index - 1].offset_ns:
            raise WireError(
                f"{field}.steps[{index}].offset_ns", steps[index].offset_ns, "give steps in order of offset_ns"
            )
    return Job(
        id=JobId(checks.identifier(f"{field}.id", message.id)),
        verification=VerificationId(checks.identifier(f"{field}.verification_id", message.verification_id)),
        vantage=VantageId(checks.identifier(f"{field}.vantage_id", message.vantage_id)),
        target=target,
        source=source,
        start_at_ns=checks.time_ns(f"{field}.start_at_ns", message.start_at_ns),
        steps=steps,
        timeout_ns=checks.number(f"{field}.timeout_ns", message.timeout_ns, 1, MAX_TIMEOUT_NS),
        linger_ns=checks.number(f"{field}.linger_ns", message.linger_ns, 0, MAX_TIMEOUT_NS),
        traceparent=checks.traceparent(f"{field}.traceparent", message.traceparent),
        watch_until_ns=checks.number(f"{field}.watch_until_ns", message.watch_until_ns, 0, checks.MAX_TIME_NS),
        ticket=checks.octets(f"{field}.ticket", message.ticket, MAX_TICKET_BYTES),
    )


def _step_from_wire(message: pb.Step, field: str) -> Step:
    return Step(
        kind=KINDS.from_wire(f"{field}.kind", message.kind),
        offset_ns=checks.number(f"{field}.offset_ns", message.offset_ns, 0, MAX_OFFSET_NS),
        source_slot=checks.number(f"{field}.source_slot", message.source_slot, 0, MAX_SOURCE_SLOT),
        source=checks.prefix(f"{field}.source", message.source) if message.source else "",
    )


def exchange_to_wire(exchange: Exchange) -> pb.Exchange:
    """The message of an exchange."""
    message = pb.Exchange(
        kind=KINDS.to_wire(exchange.kind),
        request=exchange.request,
        source=exchange.source,
        destination=exchange.destination,
        port=exchange.port,
        sent_at_ns=exchange.sent_at_ns,
        timeout_ns=exchange.timeout_ns,
        fault_detail=exchange.fault_detail,
    )
    for reply in exchange.replies:
        message.replies.add(payload=reply.payload, received_at_ns=reply.received_at_ns)
    for error in exchange.icmp:
        message.icmp.add(
            type=error.type,
            code=error.code,
            offender=error.offender,
            quoted=error.quoted,
            received_at_ns=error.received_at_ns,
        )
    if exchange.fault is not None:
        message.fault = _FAULTS.to_wire(exchange.fault)
    return message


def exchange_from_wire(message: pb.Exchange, field: str = "exchange") -> Exchange:
    """The exchange of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    checks.length(f"{field}.replies", message.replies, MAX_REPLIES)
    checks.length(f"{field}.icmp", message.icmp, MAX_REPLIES)
    fault = _FAULTS.from_wire(f"{field}.fault", message.fault) if message.HasField("fault") else None
    return Exchange(
        kind=KINDS.from_wire(f"{field}.kind", message.kind),
        # Without a fault there was a packet, and a packet has bytes.
        request=checks.octets(f"{field}.request", message.request, MAX_PAYLOAD_BYTES, 1 if fault is None else 0),
        source=checks.source(f"{field}.source", message.source),
        destination=checks.address(f"{field}.destination", message.destination),
        port=checks.number(f"{field}.port", message.port, 1, 65_535),
        sent_at_ns=checks.time_ns(f"{field}.sent_at_ns", message.sent_at_ns),
        timeout_ns=checks.number(f"{field}.timeout_ns", message.timeout_ns, 1, MAX_TIMEOUT_NS),
        replies=tuple(
            Reply(
                checks.octets(f"{field}.replies[{index}].payload", reply.payload, MAX_PAYLOAD_BYTES),
                checks.time_ns(f"{field}.replies[{index}].received_at_ns", reply.received_at_ns),
            )
            for index, reply in enumerate(message.replies)
        ),
        icmp=tuple(_icmp_from_wire(error, f"{field}.icmp[{index}]") for index, error in enumerate(message.icmp)),
        fault=fault,
        fault_detail=checks.text(f"{field}.fault_detail", message.fault_detail, MAX_FAULT_DETAIL),
    )


def _icmp_from_wire(message: pb.IcmpError, field: str) -> IcmpError:
    return IcmpError(
        type=checks.number(f"{field}.type", message.type, 0, 255),
        code=checks.number(f"{field}.code", message.code, 0, 255),
        offender=checks.address(f"{field}.offender", message.offender),
        quoted=checks.octets(f"{field}.quoted", message.quoted, MAX_PAYLOAD_BYTES),
        received_at_ns=checks.time_ns(f"{field}.received_at_ns", message.received_at_ns),
    )


def clock_to_wire(check: ClockCheck) -> pb.ClockCheck:
    """The message of a clock check."""
    return pb.ClockCheck(offset_ns=check.offset_ns, error_ns=check.error_ns, samples=check.samples)


def clock_from_wire(message: pb.ClockCheck, field: str = "clock") -> ClockCheck:
    """The clock check of a message.

    Raises:
        WireError: a number out of range.
    """
    return ClockCheck(
        offset_ns=checks.number(f"{field}.offset_ns", message.offset_ns, -checks.MAX_TIME_NS, checks.MAX_TIME_NS),
        error_ns=checks.number(f"{field}.error_ns", message.error_ns, 0, checks.MAX_TIME_NS),
        samples=message.samples,
    )


def report_to_wire(report: Report) -> pb.Report:
    """The message of a report."""
    return pb.Report(
        job_id=report.job,
        vantage_id=report.vantage,
        exchanges=map(exchange_to_wire, report.exchanges),
        control_before=map(exchange_to_wire, report.control_before),
        control_after=map(exchange_to_wire, report.control_after),
        clock=clock_to_wire(report.clock),
        capture=None if report.capture is None else capture_to_wire(report.capture),
        ticket=report.ticket,
    )


def report_from_stored(record: bytes) -> Report:
    """The report that the store kept as it came.

    Raises:
        WireError: the bytes are no report.
    """
    try:
        return report_from_wire(pb.Report.FromString(record))
    except DecodeError as error:
        raise WireError("report", record[:16], f"is no report ({error})") from error


def report_from_wire(message: pb.Report, field: str = "report") -> Report:
    """The report of a message.

    Raises:
        WireError: a field is missing or out of range.
    """
    checks.present(field, message, "clock")
    for name, exchanges, least in (
        ("exchanges", message.exchanges, 1),
        ("control_before", message.control_before, 0),
        ("control_after", message.control_after, 0),
    ):
        checks.length(f"{field}.{name}", exchanges, MAX_STEPS, least)
    return Report(
        job=JobId(checks.identifier(f"{field}.job_id", message.job_id)),
        vantage=VantageId(checks.identifier(f"{field}.vantage_id", message.vantage_id)),
        exchanges=_exchanges(message.exchanges, f"{field}.exchanges"),
        control_before=_exchanges(message.control_before, f"{field}.control_before"),
        control_after=_exchanges(message.control_after, f"{field}.control_after"),
        clock=clock_from_wire(message.clock, f"{field}.clock"),
        capture=capture_from_wire(message.capture, f"{field}.capture") if message.HasField("capture") else None,
        ticket=checks.octets(f"{field}.ticket", message.ticket, MAX_TICKET_BYTES),
    )


def _exchanges(messages: Iterable[pb.Exchange], field: str) -> tuple[Exchange, ...]:
    return tuple(exchange_from_wire(message, f"{field}[{index}]") for index, message in enumerate(messages))
