"""User-facing errors: expected value, actual value, and fix."""

__all__ = ["CheckpointError", "DataError", "EcgReadError", "GemError", "MissingExtraError", "RenderError"]


class GemError(ValueError):
    """Base of the library's own errors: bad input, never a bug."""


class EcgReadError(GemError):
    """A file that cannot be read as a 12-lead ECG."""


class RenderError(GemError):
    """An image that cannot be drawn as requested."""


class CheckpointError(GemError):
    """Weights that do not fit: missing, unmapped or misshapen tensors, or an unsafe file."""


class DataError(GemError):
    """A dataset, sample or conversation that cannot be used."""


class MissingExtraError(GemError, ImportError):
    """An optional library is not installed.

    Args:
        library: The module that failed to import.
        extra: The extra of this package that installs it.
    """

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"this needs {library!r}, which is not installed; run: pip install 'gem-lightning[{extra}]'")
