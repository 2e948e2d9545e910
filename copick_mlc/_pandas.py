"""What pandas makes of a column of text when nobody tells it the type: copick 1.31 and mlcroissant read tables so.

It decides for a whole column. A column of numbers is numbers, so `007` becomes 7 beside `8` and stays beside `x`; and
some names it takes for absent wherever they stand. Three things are not followed here: that it decides for each part of
a table of very many rows, what it does with integers of more than 64 bits, and that before its version 3 it left
numbers that no double can hold as text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from copick_mlc._tables import TABLES, Row

#: The cells that pandas reads as absent.
ABSENT = frozenset(
    "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null".split("|")
)

_INTEGER = re.compile(r"\s*[+-]?\d{1,18}\s*", re.ASCII)
_REAL = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?\s*|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
_BOOLEAN = re.compile("true|false", re.IGNORECASE)


def misread(cells: Collection[str]) -> dict[str, str | None]:
    """The cells of a column that copick and mlcroissant do not get as they are, and what they get; None for nothing.

    Args:
        cells: The cells of the column, empty ones included.
    """
    present = [cell for cell in cells if cell and cell not in ABSENT]
    convert = _conversion(present, complete=len(present) == len(cells)) if present else str
    read: dict[str, str | None] = {cell: convert(cell) for cell in present}
    read |= {cell: None for cell in cells if cell in ABSENT}
    return {cell: value for cell, value in read.items() if value != cell}


def misread_names(rows: Mapping[str, Collection[Row]]) -> Iterator[tuple[str, str, str]]:
    """The columns of names and splits that copick and mlcroissant get otherwise: table, column, and a text about it.

    Args:
        rows: All rows of each table, by its name.
    """
    for name, those in rows.items():
        for column in TABLES[name].columns:
            if column.data_type != "sc:Text" or not (column.is_key or column.name == "split"):
                continue
            if found := misread([getattr(row, column.name) or "" for row in those]):
                yield name, column.name, _remark(found)


def _remark(misread: Mapping[str, str | None], most: int = 5) -> str:
    shown = [f"{name!r} {'is lost' if value is None else f'becomes {value!r}'}" for name, value in misread.items()]
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return (
        f"copick and mlcroissant read tables with pandas, where {', '.join(shown[:most])}{more}; rename, or read the "
        "project with copick_mlc"
    )


def is_text(cell: str) -> bool:
    """Whether pandas reads a cell as text in whatever company."""
    return cell not in ABSENT and not (_REAL.fullmatch(cell) or _BOOLEAN.fullmatch(cell))


def _conversion(cells: Collection[str], *, complete: bool) -> Callable[[str], str]:
    """What becomes of each cell of a column, absent ones left out; `complete` where there were none."""
    if complete and all(map(_INTEGER.fullmatch, cells)):
        return lambda cell: str(int(cell))
    if all(map(_REAL.fullmatch, cells)):
        return lambda cell: str(float(cell))
    if all(map(_BOOLEAN.fullmatch, cells)):
        return str.capitalize
    return str
