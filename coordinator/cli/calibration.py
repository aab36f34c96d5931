"""`poolproof calibration` and `poolproof release`: do the probes tell the truth, and may one work again."""

from __future__ import annotations

import click

from coordinator.cli.options import client_options, connect

_CALIBRATION = """Show how calibrations go: each vantage's tests, and how soon a probe that lies is caught.

For operators. A calibration is a verification of a target of the coordinator's own; probes cannot tell it from others.

\b
Examples:
  poolproof calibration
  poolproof calibration --json | jq -r '.vantages[] | select(.quarantine) | .id'
"""
_RELEASE = """End a vantage's quarantine: it gets work again, and its tests begin anew. The reason is kept.

\b
Examples:
  poolproof release ams1 --reason "its uplink was mended"
"""


@click.command(help=_CALIBRATION, short_help="Whether the probes tell the truth.")
@client_options
def calibration(address: str, as_json: bool) -> None:
    """`poolproof calibration`."""
    with connect(address) as coordinator:
        page = coordinator.calibration()
    from coordinator.cli.calibration_table import (
        calibration_json,
        chance_table,
        conduct_table,
        quarantine_lines,
        summary,
    )

    if as_json:
        from coordinator.cli.snapshot_json import pretty

        click.echo(pretty(calibration_json(page)))
        return
    from coordinator.cli.screen import show

    click.echo(f"{summary(page)}\n")
    show(conduct_table(page.lines))
    held = [(line.conduct.vantage, line.conduct.quarantine) for line in page.lines]
    for line in quarantine_lines((name, why) for name, why in held if why is not None):
        click.echo(line)
    click.echo("\nHow often a probe that lies is quarantined within so many jobs:\n")
    show(chance_table(page.chances))
    if page.recent:
        click.echo(f"\nlatest: {' '.join(page.recent)} (poolproof show ID --operator)")


@click.command(help=_RELEASE, short_help="Let a quarantined vantage work again.")
@click.argument("vantage")
@click.option("--reason", required=True, metavar="TEXT", help="Why it may work again; kept.")
@client_options
def release(vantage: str, reason: str, address: str, as_json: bool) -> None:
    """`poolproof release`."""
    with connect(address) as coordinator:
        line = coordinator.release(vantage, reason)
    if as_json:
        from coordinator.cli.calibration_table import conduct_json
        from coordinator.cli.snapshot_json import pretty

        click.echo(pretty(conduct_json(line)))
        return
    click.echo(f"{vantage} may work again; its tests begin anew")


COMMANDS = {"calibration": calibration, "release": release}
