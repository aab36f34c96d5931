"""Seeded simulation of whole attempts: the real state machine, real bytes, a virtual clock and a terrible network."""
