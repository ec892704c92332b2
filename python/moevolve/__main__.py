"""`python -m moevolve`: the command line."""

from moevolve.cli.main import main

raise SystemExit(main())
