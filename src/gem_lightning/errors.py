"""User-facing errors: expected value, actual value, and fix."""

from importlib.util import find_spec

__all__ = [
    "CheckpointError",
    "DataError",
    "EcgReadError",
    "GemError",
    "LightInstallError",
    "MissingExtraError",
    "RenderError",
]


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
        name = "gem-lightning" if find_spec("torch") else "gem-ecg"  # each has the extras that can work with it
        super().__init__(f"this needs {library!r}, which is not installed; run: pip install '{name}[{extra}]'")


class LightInstallError(MissingExtraError):
    """A part of the library needs what the distribution ``gem-ecg``, the same package without torch, leaves out.

    Args:
        library: The module that failed to import.
    """

    def __init__(self, library: str) -> None:
        GemError.__init__(
            self,
            f"expected the distribution gem-lightning for this part, got one without {library!r}, as gem-ecg is; "
            "run: pip uninstall -y gem-ecg && pip install gem-lightning",
        )


def explain_import(error: ImportError) -> ImportError:
    """Return the error to raise for a module that is missing: a LightInstallError where torch is not installed."""
    library = (error.name or "").split(".")[0]
    if isinstance(error, MissingExtraError) or library in ("", "gem_lightning") or find_spec("torch") is not None:
        return error
    return LightInstallError(library)
