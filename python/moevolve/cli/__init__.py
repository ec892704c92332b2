"""The `moevolve` command. stdout carries data, stderr narration; see `moevolve.cli.main`."""
