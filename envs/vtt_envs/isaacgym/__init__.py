"""The back end Isaac Gym Preview 4: physics in a process of its own; see docs/backends.md."""
