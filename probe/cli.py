"""The commands `poolproof probe` and `poolproof responder`.

Exit codes of `probe`: 0 stopped as asked; 2 a setting or option is wrong; 3 the coordinator will not have this probe;
4 the journal cannot be used.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import click

from poolproof.logs import LogFormat, configure
from poolproof.tracing import otlp_wanted
from probe.settings import PREFIX, load

WRONG_SETTING: Final = 2
REJECTED: Final = 3
JOURNAL: Final = 4
MANY_SOCKETS: Final = 16_384
"""More than the guard's defaults allow: 100 a second, 70 s each, and those for control servers."""

_PROBE_HELP: Final = """Be a probe: do a coordinator's jobs from this vantage and report what was seen.

Settings come from defaults, then the TOML FILE, then POOLPROOF_PROBE_* variables, then the options here. At least the
vantage's id and one own address are needed. Stops gracefully on SIGTERM and SIGINT: running jobs are finished and
reports delivered, within 30 s; a second signal ends it at once, and nothing is lost from the journal.

OpenTelemetry's OTEL_EXPORTER_OTLP_ENDPOINT makes it export traces and metrics.

\b
Examples:
  poolproof probe --vantage ams1 --coordinator coord.example.org:8443 --ipv4 192.0.2.10
  poolproof probe --config /etc/poolproof/probe.toml
  POOLPROOF_PROBE_GUARD_ALLOW_PORTS=123,1123 poolproof probe --config probe.toml

\b
Exit codes: 0 stopped as asked; 2 wrong setting; 3 rejected by the coordinator; 4 journal cannot be used.
"""

_RESPONDER_HELP: Final = """A small NTP server: control server of a demo fleet, or a target where there is no daemon.

It disciplines no clock: do not put it into a pool. BEHAVIOUR is a TOML file, read again on SIGHUP:

\b
  deny = ["198.51.100.0/24"]       networks that are blocked
  allow_only = ["192.0.2.10/32"]   if given, everybody else is blocked
  refusal = "silence"              or "deny": kiss code DENY
  silent = false                   answer nobody at all
  rate_interval_ns = 0             kiss code RATE for who asks again sooner
  stratum = 1                      16: not synchronised
  refid = "LOCL"
  offset_ns = 0                    tell a wrong time

\b
Examples:
  poolproof responder --listen 127.0.0.1:11123
  poolproof responder --listen 127.0.0.1:11123 --listen '[::1]:11123' --behaviour owner.toml
"""


def _complain(message: str, code: int) -> NoReturn:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)


_LOG_OPTIONS: Final = (
    click.option(
        "--log-format",
        type=click.Choice([each.value for each in LogFormat]),
        default=LogFormat.JSON.value,
        show_default=True,
        help="How log lines look on stderr.",
    ),
    click.option("--log-level", default="INFO", show_default=True, help="Least severity that is written."),
)


def _with_logs(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_LOG_OPTIONS):
        command = option(command)
    return command


@click.command(help=_PROBE_HELP, short_help="Be a probe at a vantage.")
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help=f"TOML; or {PREFIX}FILE."
)
@click.option("--vantage", metavar="ID", help="This probe's id in the fleet.")
@click.option("--coordinator", metavar="HOST:PORT", help="Where to dial.  [default: 127.0.0.1:8443]")
@click.option("--ipv4", metavar="ADDRESS", help="Own IPv4 address to send from.")
@click.option("--ipv6", metavar="ADDRESS", help="Own IPv6 address to send from.")
@click.option("--ipv6-prefix", metavar="PREFIX", help="IPv6 prefix routed to this host.")
@click.option("--state", metavar="DIRECTORY", help="Where the journal lives.  [default: probe-state]")
@_with_logs
def probe(config: Path | None, state: str | None, log_format: str, log_level: str, **options: str | None) -> None:
    """`poolproof probe`."""
    environ = dict(os.environ)
    given = {**options, "journal_directory": state}
    environ.update({PREFIX + name.upper(): value for name, value in given.items() if value is not None})
    try:
        configure(LogFormat(log_format), log_level)
        settings = load(environ, config)
        for signal_name in ("TRACES", "METRICS"):
            otlp_wanted(environ, signal_name)
    except ValueError as error:
        _complain(str(error), WRONG_SETTING)
    _allow_many_sockets()
    # gRPC and the engine take their time to import; --help need not wait for them.
    from probe.agent import RejectedError
    from probe.compose import run_probe
    from probe.journal import JournalError
    from probe.settings import SettingsError

    try:
        asyncio.run(run_probe(settings, environ=environ))
    except RejectedError as error:
        _complain(f"the coordinator {settings.coordinator} rejected vantage {settings.vantage}: {error}", REJECTED)
    except SettingsError as error:
        _complain(str(error), WRONG_SETTING)
    except JournalError as error:
        _complain(str(error), JOURNAL)
    except asyncio.CancelledError:
        _complain("stopped at once; unfinished jobs will be reported as interrupted", 128 + signal.SIGINT)


def _allow_many_sockets() -> None:
    """Each exchange has a socket until its last late answer: with common limits, some jobs could starve all others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_SOCKETS if hard == resource.RLIM_INFINITY else min(hard, MANY_SOCKETS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@click.command(help=_RESPONDER_HELP, short_help="A small NTP server for demos.")
@click.option("--listen", multiple=True, required=True, metavar="ADDRESS:PORT", help="May be repeated.")
@click.option(
    "--behaviour",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="TOML; SIGHUP reads it again.",
)
def responder(listen: tuple[str, ...], behaviour: Path | None) -> None:
    """`poolproof responder`."""
    from probe.responder import main

    arguments = [word for address in listen for word in ("--listen", address)]
    main([*arguments, *(("--behaviour", str(behaviour)) if behaviour else ())])
