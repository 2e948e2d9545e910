"""The errors of copick_mlc.

Every error that a caller or a file can cause is a `CroissantError` and also the builtin exception that
fits, so `except FileNotFoundError` keeps working. The class says whose fault it is, `code` says what
happened. Codes are contract, message texts are not. Rules: SPEC.md, appendix A, which is `CODES`.
"""

from __future__ import annotations

import re
from typing import Any

from copick_mlc._credentials import stripped

#: Every code and what it means.
CODES = {
    "manifest-missing": "There is no metadata.json at the given place.",
    "manifest-invalid": "metadata.json is not JSON, or a part of it has the wrong shape.",
    "not-copick": "The manifest is a Croissant manifest without a copick/runs record set.",
    "table-missing": "A CSV that the manifest declares does not exist.",
    "table-checksum": "A CSV does not have the sha256 that the manifest declares.",
    "table-encoding": "A CSV is not UTF-8.",
    "table-syntax": "A record of a CSV is malformed.",
    "table-column": "A CSV has no header, lacks a key column, or names a column twice.",
    "table-key-empty": "A key cell is empty.",
    "table-key-duplicate": "Two rows of a table have the same key.",
    "table-number": "A cell of a number column is not a finite decimal number.",
    "table-boolean": "A cell of a boolean column is neither true nor false.",
    "table-unknown": "There is no table of that name.",
    "url-outside": "A relative URL climbs out of the base URL.",
    "url-local": "A manifest on remote storage points to the local disk.",
    "name-invalid": "A name or cell value that cannot be written.",
    "run-unknown": "There is no run of that name.",
    "read-only": "The place to write to cannot be written.",
    "data-missing": "The file or store that a row names does not exist.",
    "data-invalid": "The file that a row names is not what its table promises.",
    "storage-failed": "The storage reported an error while reading or writing.",
    "locked": "Another process writes to the project, and was not done in time.",
    "exists": "There is something already, and nobody said to replace it.",
    "config-invalid": "A copick configuration cannot be read.",
    "refused": "copick's own rules do not allow it: an unknown object, no user, a name that is taken, unfit values.",
    "option-invalid": "An option's value does not make sense.",
    "source-unsupported": "This kind of copick project cannot be exported.",
    "manifest-rejected": "mlcroissant found errors in the manifest.",
}


# A URL in a text, with all links of a chained one. It begins where a word does, or long words would take very long.
_URL = re.compile(r"""(?<![^\s'"<>()])[^\s'"<>()]+://[^\s'"<>]+""")


class CroissantError(Exception):
    """Base of all errors of copick_mlc. No URL in it has credentials.

    Attributes:
        code: One of `CODES`.
        path: The file, directory or URL it is about, or None.
        line: 1-based line in that file, or None.
        column: Name of the CSV column, or None.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        path: str | None = None,
        line: int | None = None,
        column: str | None = None,
    ) -> None:
        if code not in CODES:
            raise AssertionError(f"undeclared error code {code!r}")
        message = _URL.sub(lambda match: stripped(match[0]), message)
        super().__init__(message)
        self.code = code
        self.message = message
        self.path = None if path is None else stripped(str(path))
        self.line = line
        self.column = column

    def __str__(self) -> str:
        where = ", ".join(
            part
            for part in (
                self.path and str(self.path),
                self.line and f"line {self.line}",
                self.column and f"column {self.column}",
            )
            if part
        )
        return f"{where}: {self.message}" if where else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.code, self.message, self.path, self.line, self.column)


def _rebuild(
    kind: type[CroissantError], code: str, message: str, path: str | None, line: int | None, column: str | None
) -> CroissantError:
    return kind(code, message, path=path, line=line, column=column)


class DataError(CroissantError, ValueError):
    """What was read is not in the format: the file is at fault."""


class MissingError(CroissantError, FileNotFoundError):
    """Something that was named does not exist."""


class StorageError(CroissantError, OSError):
    """The storage failed; the builtin error is the `__cause__`."""


class UsageError(CroissantError, ValueError):
    """The caller asked for something that the format or copick does not allow."""


class UnknownRunError(CroissantError, KeyError):
    """The caller named a run that does not exist."""


class ReadOnlyError(CroissantError, PermissionError):
    """The caller tried to write where writing is not possible."""


class LockedError(CroissantError, TimeoutError):
    """Another process holds the lock of the project."""


class ExistsError(CroissantError, FileExistsError):
    """The caller would have overwritten something."""


class CroissantWarning(UserWarning):
    """Something a person should know, that is no error."""
