"""The coordinator: hands jobs to probes, judges what they report, and keeps the verdicts."""
