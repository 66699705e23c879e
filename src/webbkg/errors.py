"""Every error that webbkg raises on purpose; each message names the file, the value and the way out."""

from __future__ import annotations


class WebbkgError(Exception):
    """Base of all errors raised by webbkg."""


class OptionError(WebbkgError, ValueError):
    """A parameter lies outside its allowed range."""


class InputError(WebbkgError, ValueError):
    """A file or model cannot serve as target or background."""


class MissingFileError(InputError, FileNotFoundError):
    """A file that was named does not exist."""


class AssociationError(InputError):
    """An association cannot be read or does not say what to do."""


class MismatchError(InputError):
    """A background was not taken with the target's instrument and detector."""


class ReferenceUnavailableError(WebbkgError):
    """A reference file is needed and cannot be had."""


class MissingExtraError(WebbkgError, ImportError):
    """Something is asked for that an extra of the installation brings."""


class OutputError(WebbkgError, OSError):
    """A result cannot be written."""
