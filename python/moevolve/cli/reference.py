"""Writes `docs/cli.md`: `python -m moevolve.cli.reference > docs/cli.md`."""

from moevolve.cli.parsers import reference

if __name__ == "__main__":
    print(reference(), end="")
