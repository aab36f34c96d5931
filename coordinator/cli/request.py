"""`poolproof request`."""

from __future__ import annotations

import click

from coordinator.cli.options import client_options, connect

_HELP = """Claim TARGET: an address or a host name, with or without a port.

A host name is resolved now and pinned: there is one verification for each address, each proven by itself. The
coordinator first measures the paths to the target (the baseline, under a minute), then sets a challenge.

\b
Variants of the method differential:
  block       stop answering the assigned verifiers; everybody else is answered
  allow-only  answer the assigned monitors and nobody else; for a server not yet in service

\b
Examples:
  poolproof request 192.0.2.7
  poolproof request '[2001:db8::7]:123' --variant allow-only
  poolproof request ntp.example.org --applicant alice --json | jq -r '.verifications[].id'
"""


@click.command(help=_HELP, short_help="Claim a server: ask for a verification.")
@click.argument("target")
@click.option("--method", type=click.Choice(["differential"]), default="differential", show_default=True)
@click.option("--variant", type=click.Choice(["block", "allow-only"]), default="block", show_default=True)
@click.option(
    "--applicant",
    metavar="NAME",
    envvar="POOLPROOF_APPLICANT",
    show_envvar=True,
    help="Who claims it.  [default: your login name]",
)
@click.option("--idempotency-key", metavar="KEY", default="", help="The same request with the same KEY is made once.")
@client_options
def request(
    target: str,
    method: str,
    variant: str,
    applicant: str | None,
    idempotency_key: str,
    address: str,
    as_json: bool,
) -> None:
    """`poolproof request`."""
    name = applicant or _login()
    with connect(address) as coordinator:
        from poolproof.challenge import Method
        from poolproof.variant import Variant

        made = coordinator.request(target, Method(method), Variant(variant), name, idempotency_key)
    if as_json:
        from coordinator.cli.snapshot_json import pretty, snapshot_json

        click.echo(pretty({"verifications": [snapshot_json(each, with_matrix=False) for each in made]}))
        return
    for each in made:
        click.echo(f"{each.id}  {each.target}  {each.method.value}/{each.variant.value}  {each.state.value}")
    if any(each.state.is_open for each in made):
        click.echo("\nNext, once the baseline is measured (--wait waits for it):")
        for each in made:
            click.echo(f"  poolproof instructions {each.id} --for SOFTWARE --wait")
    else:
        click.echo(f"\nWhy it ended at once: poolproof explain {made[0].id}" if made else "no address")


def _login() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise click.UsageError("--applicant: you have no login name here; give one") from None


COMMANDS = {"request": request}
