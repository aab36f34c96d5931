"""`poolproof coordinator`: starts the server. Options are settings of coordinator/settings.py."""

from __future__ import annotations

import os

import click

from coordinator.cli.exit_codes import ExitCode
from coordinator.cli.failure import Failure

_HELP = """Start a coordinator: takes requests, hands jobs to probes, judges what they saw.

Settings come from defaults, then the TOML FILE, then POOLPROOF_COORDINATOR_* variables, then the options here. Only the
fleet file must be given. Stops gracefully on SIGTERM and SIGINT; everything that was taken is carried on at the next
start. Once it serves, it prints "listening on ADDRESS:PORT".

OpenTelemetry's OTEL_EXPORTER_OTLP_ENDPOINT makes it export traces and metrics.

\b
Examples:
  poolproof coordinator --fleet fleet.toml
  poolproof coordinator --fleet fleet.toml --listen '[::1]:8443' --state-dir /var/lib/poolproof
  poolproof coordinator --config /etc/poolproof/coordinator.toml --log-format text
"""


@click.command(help=_HELP, short_help="Start a coordinator.")
@click.option("--config", type=click.Path(dir_okay=False), metavar="FILE", help="TOML with any of the settings.")
@click.option("--fleet", "fleet_file", metavar="FILE", help="TOML with the vantages.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Port 0 takes a free one.  [default: 127.0.0.1:8443]")
@click.option("--state-dir", metavar="DIRECTORY", help="The embedded store.  [default: coordinator-state]")
@click.option("--store", type=click.Choice(["sqlite", "memory"]), help="memory: all is gone at the end.")
@click.option("--policy", metavar="ID", help="Judge new verifications by this one.  [default: the newest]")
@click.option("--policy-file", metavar="FILE", help="TOML with a policy of your own.")
@click.option(
    "--allow-network", "allow_networks", multiple=True, metavar="PREFIX", help="Special-purpose, yet allowed."
)
@click.option(
    "--allow-port", "allow_ports", multiple=True, metavar="PORT", help="Instead of 123 alone; may be repeated."
)
@click.option("--allow-plaintext", is_flag=True, help="Listen without encryption where others can reach it.")
@click.option("--log-format", type=click.Choice(["json", "text"]), default="json", show_default=True, help="On stderr.")
@click.option("--log-level", default="INFO", show_default=True, help="Least severity that is written to stderr.")
def coordinator(
    config: str | None,
    log_format: str,
    log_level: str,
    allow_plaintext: bool,
    allow_networks: tuple[str, ...],
    allow_ports: tuple[str, ...],
    **options: str | None,
) -> None:
    """`poolproof coordinator`."""
    given = {
        **options,
        "allow_plaintext": "true" if allow_plaintext else None,
        "allow_networks": ",".join(allow_networks) or None,
        "allow_ports": ",".join(allow_ports) or None,
    }
    _serve(config, log_format, log_level, {name: value for name, value in given.items() if value is not None})


def _serve(config: str | None, log_format: str, log_level: str, given: dict[str, str]) -> None:
    # The server takes its time to import; --help need not wait for it.
    import asyncio
    from pathlib import Path

    from coordinator.conductor import UnknownPolicyError
    from coordinator.draw_key import DrawKeyError
    from coordinator.fleet import FleetError
    from coordinator.policy_file import PolicyFileError
    from coordinator.server import ListenError, serve
    from coordinator.settings import PREFIX, SettingsError, load
    from coordinator.store.errors import StoreError
    from poolproof.logs import LogFormat, configure

    environ = {**os.environ, **{PREFIX + name.upper(): value for name, value in given.items()}}
    try:
        configure(LogFormat(log_format), log_level)
    except ValueError as error:
        raise Failure(ExitCode.USAGE, str(error)) from None
    try:
        settings = load(environ, Path(config) if config else None)
        asyncio.run(serve(settings, on_ready=_say))
    except StoreError as error:
        raise Failure(ExitCode.TRY_AGAIN, f"store: {error}") from None
    except (SettingsError, FleetError, PolicyFileError, DrawKeyError, UnknownPolicyError, ListenError) as error:
        raise Failure(ExitCode.USAGE, str(error)) from None


def _say(address: str) -> None:
    click.echo(f"listening on {address}")


COMMANDS = {"coordinator": coordinator}
