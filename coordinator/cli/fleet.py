"""`poolproof fleet`."""

from __future__ import annotations

import click

from coordinator.cli.options import client_options, connect

_HELP = """List the vantages of the coordinator's fleet and their probes. For operators: it names every address.

\b
Examples:
  poolproof fleet
  poolproof fleet --json | jq -r '.vantages[] | select(.connected | not) | .id'
"""


@click.command(help=_HELP, short_help="The vantages and their probes.")
@client_options
def fleet(address: str, as_json: bool) -> None:
    """`poolproof fleet`."""
    import time

    with connect(address) as coordinator:
        seen = coordinator.fleet()
    vantages = seen.vantages
    from coordinator.cli.calibration_table import quarantine_lines
    from coordinator.cli.vantage_table import incident_lines, vantage_json, vantage_table

    if as_json:
        from coordinator.cli.snapshot_json import pretty

        click.echo(pretty({"calibrated": seen.calibrated, "vantages": [vantage_json(each) for each in vantages]}))
        return
    from coordinator.cli.screen import show

    now_ns = time.time_ns()
    show(vantage_table(vantages, now_ns))
    connected = sum(each.connected for each in vantages)
    click.echo(f"\n{connected} of {len(vantages)} connected")
    if not seen.calibrated:
        click.echo("no calibrations: calibration_listen is empty, so that a probe that lies is not found")
    held = [(each.vantage.id, each.quarantine) for each in vantages]
    for line in quarantine_lines((name, why) for name, why in held if why is not None):
        click.echo(line)
    for line in incident_lines(vantages, now_ns):
        click.echo(line)


COMMANDS = {"fleet": fleet}
