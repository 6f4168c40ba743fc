"""Subcommands of `vtt`: light to import, so that `--help` needs no torch."""
