"""The subcommands of `vtt` that live in the lowest layer."""
