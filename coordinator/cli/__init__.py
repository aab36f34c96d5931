"""The `poolproof` command.

    app.py          the command tree; loads each command's module only when it is called
    exit_codes.py   what a script can rely on
    connection.py   calls to the coordinator, each with a deadline
    snapshot.py     a verification as the coordinator shows it, free of generated types
    matrix.py, verdict_text.py, verdict_table.py, vantage_table.py     drawing: values in, text out
    snapshot_json.py                                                   `--json`: the keys that scripts rely on

The other modules hold the commands themselves.
"""

from coordinator.cli.app import main as main
