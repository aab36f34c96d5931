"""Real NTP daemons and real packets in network namespaces of this machine. README.md says how to use it."""
