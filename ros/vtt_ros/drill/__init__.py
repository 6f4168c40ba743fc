"""Breaks a running graph on purpose and measures how fast the robot stops; see `vtt ros drill --help`."""
