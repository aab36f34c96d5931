"""Calibrations: verifications of the coordinator's own targets, which show whether probes tell the truth."""
