"""The probe's own guard: what it will not do, whatever a coordinator says.

A coordinator that is broken, hijacked or lied to must not turn a fleet of probes into a weapon. Every job is judged
here before any packet: where it goes, from where, how many packets, how fast, for how long. The answer is a value.
A permitted job's packets count from that moment; `withdraw` takes them back if none was sent.

No I/O and no clock: the time is an argument. State is in memory; the journal keeps each permit beside its job, and a
new process begins by recalling them. So a coordinator gains nothing by making a probe end and start again.

What is planned here can leave late, when a process is held up: `gate` looks once more at each packet.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from poolproof.ids import JobId
from poolproof.job import MAX_STEPS, Job
from poolproof.special_purpose import Network, forbidden_target
from poolproof.target import Family, family_of
from probe.budgets import PLANNED_SLACK_NS, Budgets
from probe.pace import SECOND_NS, Pace, paced_times
from probe.settings import LONGEST_PREFIX, ProbeSettings

_FORGET_EVERY_NS = 10 * SECOND_NS


class GuardRule(Enum):
    """Which of the guard's rules refused a job."""

    VANTAGE = "vantage"
    TARGET = "target"
    PORT = "port"
    SOURCE = "source"
    STEPS = "steps"
    START = "start"
    DURATION = "duration"
    JOBS = "jobs"
    WATCH = "watch"
    PACE = "pace"
    TARGET_BUDGET = "target-budget"
    NETWORK_BUDGET = "network-budget"
    BUDGET = "budget"
    CONTROL_BUDGET = "control-budget"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A job that will not be done.

    Attributes:
        rule: the rule that it breaks.
        detail: field, value and limit, for people.
    """

    rule: GuardRule
    detail: str


@dataclass(frozen=True, slots=True)
class Permit:
    """A job that may be done; to be handed back with `finish` or `withdraw`.

    Attributes:
        job: which job.
        target: its target's address.
        pace_key: source and target that its spacing counts for.
        times: planned send times, Unix ns.
        paced: those of them that the pace applies to.
    """

    job: JobId
    target: str
    pace_key: tuple[str, str]
    times: tuple[int, ...]
    paced: tuple[int, ...]


class Guard:
    """Judges jobs and remembers what it permitted."""

    def __init__(self, settings: ProbeSettings) -> None:
        """Args: settings: the probe's own addresses and limits."""
        self._settings = settings
        self._limits = settings.guard
        self._running: set[JobId] = set()
        self._pace = Pace()
        self._budgets = Budgets(settings, PLANNED_SLACK_NS)
        self._forgot_at_ns = 0

    def recall(self, permit: Permit, now_ns: int) -> None:
        """An earlier process may have sent what this permit allowed until now."""
        self._pace.plan(permit.pace_key, [at_ns for at_ns in permit.paced if at_ns <= now_ns])
        self._budgets.plan(permit.target, [at_ns for at_ns in permit.times if at_ns <= now_ns])

    def admit(self, job: Job, now_ns: int) -> Permit | Refusal:
        """Judge a job. A permitted job counts as running, and its packets as sent, from now on."""
        if now_ns - self._forgot_at_ns >= _FORGET_EVERY_NS:
            self._pace.forget(now_ns)
            self._budgets.forget(now_ns)
            self._forgot_at_ns = now_ns
        refusal = next(self._broken_rules(job, now_ns), None)
        if refusal is not None:
            return refusal
        times = tuple(job.start_at_ns + step.offset_ns for step in job.steps)
        paced = paced_times(job)
        if isinstance(paced, str):
            return Refusal(GuardRule.PACE, f"steps: {paced}")
        key = (self._identity(job.source), job.target.address)
        late = self._pace.refuses(key, paced)
        if late is not None:
            return Refusal(GuardRule.PACE, f"steps: from {key[0]} to {key[1]}: {late}")
        control = self._settings.control
        asked = sorted((max(now_ns, times[0] - control.lead_ns), times[-1] + job.timeout_ns))
        servers = f"of {job.target.family.name}"
        over = self._budgets.over(job.target.address, times) or self._budgets.control_over(servers, asked)
        if over is not None:
            return Refusal(GuardRule(over.limit.value), over.detail)
        self._running.add(job.id)
        self._pace.plan(key, paced)
        self._budgets.plan(job.target.address, times)
        self._budgets.plan_control(servers, asked)
        return Permit(job.id, job.target.address, key, times, paced)

    def finish(self, permit: Permit) -> None:
        """The job is over; what it sent stays counted."""
        self._running.discard(permit.job)

    def withdraw(self, permit: Permit) -> None:
        """The job is over and sent nothing to its target; its control servers may have been asked and stay counted."""
        self.finish(permit)
        self._pace.unplan(permit.pace_key, permit.paced)
        self._budgets.unplan(permit.target, permit.times)

    def _broken_rules(self, job: Job, now_ns: int) -> Iterator[Refusal]:
        """What speaks against a job by itself, whatever else is going on."""
        limits = self._limits
        if job.vantage != self._settings.vantage:
            yield Refusal(GuardRule.VANTAGE, f"vantage {job.vantage!r}: this probe is {self._settings.vantage!r}")
        special = forbidden_target(job.target.address, limits.allow_networks)
        if special is not None:
            yield Refusal(
                GuardRule.TARGET,
                f"target {job.target.address}: special-purpose address in {special}; this probe's"
                f" guard.allow_networks are {', '.join(map(str, limits.allow_networks)) or 'none'}",
            )
        elif self._is_ours(job.target.address):
            yield Refusal(GuardRule.TARGET, f"target {job.target.address}: this probe's own address")
        denied = [network for network in limits.deny_networks if _within(job.target.address, network)]
        if denied:
            yield Refusal(GuardRule.TARGET, f"target {job.target.address}: in guard.deny_networks, {denied[0]}")
        if job.target.port not in limits.allow_ports:
            ports = ", ".join(map(str, sorted(limits.allow_ports)))
            yield Refusal(GuardRule.PORT, f"target port {job.target.port}: guard.allow_ports are {ports}")
        if not self._is_own(job.source, job.target.family):
            yield Refusal(
                GuardRule.SOURCE,
                f"source {job.source!r}: not this probe's own for {job.target.family.name}; its own are"
                f" {', '.join(self._own(job.target.family)) or 'none'}",
            )
        for index, step in enumerate(job.steps):
            if step.source and not _is_part(step.source, job.source):
                yield Refusal(
                    GuardRule.SOURCE,
                    f"steps[{index}].source {step.source!r}: not a part of the job's source {job.source}, of"
                    f" /{LONGEST_PREFIX} or shorter",
                )
        if not 1 <= len(job.steps) <= MAX_STEPS:
            yield Refusal(GuardRule.STEPS, f"steps: {len(job.steps)}; 1 to {MAX_STEPS}")
            return
        offsets = [step.offset_ns for step in job.steps]
        if offsets[0] < 0 or offsets != sorted(offsets):
            yield Refusal(GuardRule.STEPS, f"steps: offsets {offsets} ns; none below 0, in order")
        ahead = job.start_at_ns - now_ns
        if ahead > limits.max_start_ahead_ns:
            yield Refusal(
                GuardRule.START,
                f"start_at_ns: {ahead} ns ahead; guard.max_start_ahead_ns is {limits.max_start_ahead_ns}",
            )
        for name, value, least, most in (
            ("timeout_ns", job.timeout_ns, 1, limits.max_timeout_ns),
            ("linger_ns", job.linger_ns, 0, limits.max_linger_ns),
            ("duration_ns", offsets[-1] + job.timeout_ns + job.linger_ns, 1, limits.max_duration_ns),
        ):
            if not least <= value <= most:
                yield Refusal(GuardRule.DURATION, f"{name}: {value}; {least} to guard.max_{name}, {most}")
        watch_ns = job.watch_until_ns - now_ns
        if watch_ns > limits.max_watch_ns:
            yield Refusal(
                GuardRule.WATCH, f"watch_until_ns: {watch_ns} ns ahead; guard.max_watch_ns is {limits.max_watch_ns}"
            )
        if job.id in self._running or len(self._running) >= limits.max_jobs:
            running = f"{job.id!r} is under way" if job.id in self._running else f"{len(self._running)} under way"
            yield Refusal(GuardRule.JOBS, f"job: {running}; guard.max_jobs is {limits.max_jobs}")

    def _is_ours(self, address: str) -> bool:
        """An own address that no operator allowed as a target (a demo on one machine does)."""
        own = [ipaddress.ip_network(each) for family in Family for each in self._own(family)]
        allowed = any(_within(address, network) for network in self._limits.allow_networks)
        return not allowed and any(_within(address, network) for network in own)

    def _own(self, family: Family) -> list[str]:
        if family is Family.IPV4:
            return [self._settings.ipv4] if self._settings.ipv4 else []
        return [str(own) for own in (self._settings.ipv6, self._settings.ipv6_prefix) if own]

    def _is_own(self, source: str, family: Family) -> bool:
        if source in self._own(family):
            return True
        prefix = self._settings.ipv6_prefix
        if family is Family.IPV4 or prefix is None:
            return False
        try:
            part = ipaddress.IPv6Network(source)
        except ValueError:
            return False
        return part.subnet_of(prefix) and ("/" not in source or part.prefixlen <= LONGEST_PREFIX)

    def _identity(self, source: str) -> str:
        """The prefix, if the source lies in it: a target may limit all of it as one."""
        prefix = self._settings.ipv6_prefix
        if prefix is None or family_of(source) is not Family.IPV6:
            return source
        return str(prefix) if ipaddress.IPv6Network(source).subnet_of(prefix) else source


def _is_part(source: str, whole: str) -> bool:
    """Whether a step's source is a prefix within the job's."""
    try:
        part, prefix = ipaddress.IPv6Network(source), ipaddress.IPv6Network(whole)
    except ValueError:
        return False
    return "/" in source and "/" in whole and part.subnet_of(prefix) and part.prefixlen <= LONGEST_PREFIX


def _within(address: str, network: Network) -> bool:
    return ipaddress.ip_address(address) in network
