"""The exception tree: what went wrong, where, and what to do about it.

Every error that reaches a user derives from `MoevolveError` and carries the exit code of the command line:
1 the run failed, 2 usage or configuration, 3 refused for safety.
"""


class MoevolveError(Exception):
    """Base of every error the package raises on purpose."""

    exit_code = 1


class UsageError(MoevolveError):
    """A wrong argument: an unknown preset, skill, arm or run."""

    exit_code = 2


class CapacityError(UsageError):
    """A request for more memory than the generation service has, even if it were alone."""


class ConfigError(UsageError):
    """A configuration that cannot be used: unknown key, wrong type, impossible value."""


class CheckpointError(UsageError):
    """A checkpoint that is torn, alien, or does not match its tokenizer."""


class StoreError(MoevolveError):
    """The run's store cannot be read or written."""


class StoreBusyError(StoreError):
    """Another process writes this run."""

    exit_code = 2


class SchemaError(StoreError):
    """Another version of Moevolve wrote the run folder: a newer one, or one whose runs can be read only."""

    exit_code = 2


class StorageFullError(StoreError):
    """No space left; everything committed before stays readable."""


class DivergedError(MoevolveError):
    """A replayed or resumed run produced another record than the journal holds."""


class SandboxError(MoevolveError):
    """The sandbox could not be set up or its process died before it served."""


class EndpointError(MoevolveError):
    """The server that answers for a run cannot go on: the key, the model, the quota, or nothing answers at all."""


class SpendingLimitError(MoevolveError):
    """What is left of a run's tokens or money does not cover the next request."""


class SafetyError(MoevolveError):
    """Refused for safety, whatever the score says."""

    exit_code = 3
