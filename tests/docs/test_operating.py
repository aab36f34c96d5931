"""docs/operating.md against the code: settings, policy, exit codes, metrics, spans."""

from __future__ import annotations

import ipaddress
import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from coordinator.cli.exit_codes import ExitCode
from coordinator.fleet import load_fleet
from coordinator.policy_file import load_policy
from coordinator.settings import PREFIX as COORDINATOR_PREFIX
from coordinator.settings import CoordinatorSettings
from coordinator.settings import load as load_coordinator
from poolproof import semconv
from poolproof.exchange import LocalFault
from poolproof.policy import POLICY_2026_11
from poolproof.verdict import Reason
from probe import cli
from probe.settings import PREFIX as PROBE_PREFIX
from probe.settings import ControlSettings, GuardSettings, JournalSettings, ProbeSettings, TripwireSettings
from probe.settings import load as load_probe
from tests.docs.pages import fences, rows, section, text, word

PAGE = text("docs/operating.md")
Setting = tuple[str, str, str]


def shown(name: str, value: object) -> str:
    """A default as the tables show it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and name.endswith("_ns"):
        return f"{value / 1e9:g} s"
    if isinstance(value, str | Path):
        return f"`{value}`" if str(value) else ""
    if isinstance(value, tuple | frozenset):
        return ", ".join(f"`{each}`" for each in value)
    return "" if value is None else str(value)


def defaults(kind: type[Any]) -> Iterator[tuple[str, object]]:
    for each in fields(kind):
        if each.default is not MISSING:
            yield each.name, each.default
        else:
            yield each.name, each.default_factory() if each.default_factory is not MISSING else MISSING


def settings(kind: type[Any], prefix: str, *, table: str = "", without: Iterable[str] = ()) -> list[Setting]:
    listed = []
    for name, value in defaults(kind):
        if name not in without:
            key, variable = (f"{table}.{name}", f"{table}_{name}") if table else (name, name)
            default = "must be given" if value is MISSING else shown(name, value)
            listed.append((f"`{key}`", f"`{prefix}{variable.upper()}`", default))
    return listed


def written(heading: str) -> list[Setting]:
    return [(cells[0], cells[1], cells[2]) for cells in rows(section(PAGE, heading))]


def test_the_coordinators_settings_are_those_of_the_code() -> None:
    assert written("### Coordinator") == settings(CoordinatorSettings, COORDINATOR_PREFIX, without=["otel"])


def test_the_probes_settings_are_those_of_the_code() -> None:
    tables = {
        "guard": GuardSettings,
        "control": ControlSettings,
        "journal": JournalSettings,
        "tripwire": TripwireSettings,
    }
    top = settings(ProbeSettings, PROBE_PREFIX, without=tables)
    assert written("### Probe") == [
        *top,
        *(line for table, kind in tables.items() for line in settings(kind, PROBE_PREFIX, table=table)),
    ]


def test_the_policys_numbers_are_those_of_the_code() -> None:
    listed = {word(cells[0]): cells[1] for cells in rows(section(PAGE, "## Policy file"))}
    assert listed == {
        each.name: shown(each.name, getattr(POLICY_2026_11, each.name))
        for each in fields(POLICY_2026_11)
        if each.name != "id"
    }


def test_the_example_files_can_be_used(tmp_path: Path) -> None:
    fleet, policy, coordinator, probe = fences(PAGE, "toml")
    for name, body in (("fleet.toml", fleet), ("policy.toml", policy), ("c.toml", coordinator), ("p.toml", probe)):
        (tmp_path / name).write_text(body)
    assert {vantage.id for vantage in load_fleet(tmp_path / "fleet.toml")} == {"ams1", "nyc1"}
    assert load_policy(tmp_path / "policy.toml").id == "example-2027"
    told = load_coordinator({}, tmp_path / "c.toml")
    assert (told.fleet_file, told.policy_file) == (tmp_path / "fleet.toml", tmp_path / "policy.toml")
    own = load_probe({}, tmp_path / "p.toml")
    assert own.ipv6_prefix == ipaddress.IPv6Network("2001:db8:7::/64")


def test_exit_codes_are_those_of_the_code() -> None:
    page = section(PAGE, "## Exit codes")
    client, probe = page.split("`poolproof probe`")
    assert [(int(code), meaning) for code, meaning in rows(client)] == [(code.value, code.meaning) for code in ExitCode]
    assert [int(code) for code, _ in rows(probe)] == [
        0,
        cli.WRONG_SETTING,
        cli.REJECTED,
        cli.JOURNAL,
        128 + signal.SIGINT,
    ]


def test_metrics_are_those_of_the_code() -> None:
    assert rows(section(PAGE, "## Metrics")) == [
        [f"`{metric.name}`", metric.instrument.value, metric.unit, labels(metric.labels), metric.description]
        for metric in semconv.METRICS
    ]


def labels(listed: Mapping[str, frozenset[str]]) -> str:
    return ", ".join(f"`{name}`" for name in listed)


def test_spans_are_those_of_the_code() -> None:
    named = re.findall(r"`((?:verification|job|probe|ntp)\.[a-z]+)`", section(PAGE, "## Traces"))
    assert set(named) == set(semconv.SPANS)


def test_what_the_page_explains_can_happen() -> None:
    said = section(PAGE, "## When something is odd")
    assert set(re.findall(r"fault `([a-z-]+)`", said)) <= {fault.value for fault in LocalFault}
    assert set(re.findall(r"`inconclusive`, `([a-z-]+)`", said)) <= {reason.value for reason in Reason}
