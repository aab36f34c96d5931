"""What a probe is asked to do, and what it answers: a job of timed steps, and a report of exchanges.

A job is leased once and may be handed over again after a broken stream: its id makes that harmless. The report
accounts for every step, so that "nobody reported" can never look like "silence".
"""

from __future__ import annotations

from dataclasses import dataclass

from poolproof.capture import Capture
from poolproof.exchange import Exchange, ExchangeKind
from poolproof.ids import JobId, VantageId, VerificationId
from poolproof.target import Target

MAX_STEPS = 64
"""More steps than this in a job are refused by the probe."""
MAX_TICKET_BYTES = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One exchange of a job.

    Attributes:
        kind: what to ask.
        offset_ns: when, after the job's start.
        source_slot: steps with one slot share a source address where the source is a prefix; ignored otherwise.
        source: a part of the job's prefix, of which this step draws its address; empty: all of it.
    """

    kind: ExchangeKind
    offset_ns: int
    source_slot: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """Exchanges that one probe shall make at given times.

    Attributes:
        id: unique; a second lease with the same id is the same job.
        verification: what it is for; only a label to the probe.
        vantage: who shall do it.
        target: address and port to ask.
        source: the vantage's address, or an IPv6 prefix of which each `source_slot` draws a random address.
        start_at_ns: absolute start time, Unix ns. A probe that gets the job later than this reports MISSED_START.
        steps: at least one, in order of `offset_ns`.
        timeout_ns: how long after sending an answer is in time.
        linger_ns: how long after the last timeout the sockets stay open for late answers, which are kept as evidence.
        traceparent: W3C trace context of the dispatch, or empty.
        watch_until_ns: until when the probe's tripwire shall watch the target's packets to the source, from before
            the first step on; 0: no watch is asked.
        ticket: binds vantage, job, target and expiry together, at most `MAX_TICKET_BYTES`; means nothing to the probe,
            which gives it back with the report.
    """

    id: JobId
    verification: VerificationId
    vantage: VantageId
    target: Target
    source: str
    start_at_ns: int
    steps: tuple[Step, ...]
    timeout_ns: int
    linger_ns: int
    traceparent: str = ""
    watch_until_ns: int = 0
    ticket: bytes = b""


@dataclass(frozen=True, slots=True)
class ClockCheck:
    """How far the probe's clock was off its control servers when the job began.

    Attributes:
        offset_ns: median of (server time - our time); positive: our clock is slow.
        error_ns: half the round trip of the best sample: the bound on the error of `offset_ns`.
        samples: how many answers it rests on; 0: unknown, offset and error mean nothing.
    """

    offset_ns: int
    error_ns: int
    samples: int


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a probe saw while it did one job.

    Attributes:
        job: which job.
        vantage: who reports.
        exchanges: one for each step, in the order of the steps; a step that could not be made has a `fault`.
        control_before: exchanges with the probe's own control servers, from the same source address, made
            before the first step.
        control_after: the same after the last step's timeout. An answer in both brackets is what gives
            silence a meaning.
        clock: the probe's own clock check.
        capture: what the tripwire caught so far; None: the probe has none.
        ticket: the job's.
    """

    job: JobId
    vantage: VantageId
    exchanges: tuple[Exchange, ...]
    control_before: tuple[Exchange, ...]
    control_after: tuple[Exchange, ...]
    clock: ClockCheck
    capture: Capture | None = None
    ticket: bytes = b""
