"""The errors tracer raises for a user: where it happened, what was found, what was expected, what to do."""


class TracerError(Exception):
    """Base of every error that a user can cause and mend; the command line prints it without a traceback and exits 2.

    Args:
        where: the file, setting or prompt concerned.
        found: what was there.
        expected: what should have been there.
        to_do: what the user can do about it.
    """

    def __init__(self, where: str, *, found: str, expected: str, to_do: str) -> None:
        super().__init__(where, found, expected, to_do)
        self.where, self.found, self.expected, self.to_do = where, found, expected, to_do

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}; expected {self.expected}. {self.to_do}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.where, self.found, self.expected, self.to_do))


def _rebuild(kind: type[TracerError], where: str, found: str, expected: str, to_do: str) -> TracerError:
    return kind(where, found=found, expected=expected, to_do=to_do)


class ConfigError(TracerError):
    """A setting that is unknown, of the wrong type, or contradicts another."""


class DataError(TracerError):
    """A corpus or a prompt that cannot be used."""


class ModelError(TracerError):
    """A checkpoint or a transcoder set that cannot be loaded or does not fit."""


class ArtifactError(TracerError):
    """A file or folder that tracer wrote, or should have written, that is absent, foreign or damaged."""


class RunError(TracerError):
    """A run that cannot start, go on or finish."""


class StorageError(RunError):
    """Storage that does not answer, or refuses: it may answer the next time."""
