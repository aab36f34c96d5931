"""`python -m coordinator.cli`: the `poolproof` command where it is not installed."""

from coordinator.cli.app import main

main()
