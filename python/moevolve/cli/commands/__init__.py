"""One module a command: `arguments(parser)` declares options, `execute(options)` returns the exit code."""
