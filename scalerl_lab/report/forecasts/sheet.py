"""A text file of rows and named columns: its bytes, encoding and delimiter."""

from __future__ import annotations

import csv
import gzip
import io
import re
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

from scalerl_lab.config.problems import nearest
from scalerl_lab.errors import DataError, NotFound

STDIN = "-"
MOST_PROBLEMS = 5
"""So many wrong rows are named; of the others only the number is said."""
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows as text, all as long as the header."""

    source: str
    """How messages name the file."""
    stem: str
    """The file's name without folder and endings."""
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]
    """Line of the file on which each row ends, from 1."""
    decimal_comma: bool
    """Whether ``0,5`` is a half, as where semicolons divide the cells."""

    def column(self, name: str) -> list[str]:
        """The cells of a column."""
        place = self.header.index(name)
        return [row[place] for row in self.rows]


def read_sheet(path: str) -> Sheet:
    """The rows of a CSV file, also gzipped, tab- or semicolon-divided; ``-`` is the standard input.

    Raises:
        NotFound: there is no such file.
        DataError: the file cannot be read, is no text, has no header or no rows, or a row does not have
            the header's number of cells.
    """
    source = "standard input" if path == STDIN else path
    text = _decode(_bytes(path), source)
    text = _uncommented(text)
    stem = "stdin" if path == STDIN else Path(path).name.removesuffix(".gz").rsplit(".", 1)[0]
    first = next((line for line in text.splitlines() if line.strip()), None)
    if first is None:
        raise DataError(f"{source} is empty; a line with the names of columns and rows of points are needed")
    delimiter = _delimiter(first)
    records = _records(text, delimiter, source)
    line, cells = records[0]
    header = _header(line, cells, source)
    if len(records) == 1:
        raise DataError(f"{source} holds a header ({', '.join(header)}) and no rows")
    problems, rows = [], []
    for number, record in records[1:]:
        if len(record) < len(header) or any(cell.strip() for cell in record[len(header) :]):
            cells_there = "1 cell" if len(record) == 1 else f"{len(record)} cells"
            problems.append(f"line {number}: {cells_there}, the header names {len(header)} columns")
        rows.append(tuple(record[: len(header)]))
    raise_all(source, problems)
    numbers = tuple(number for number, _ in records[1:])
    return Sheet(source, stem, header, tuple(rows), numbers, decimal_comma=delimiter == ";")


def raise_all(source: str, problems: list[str]) -> None:
    """Raise what is wrong with the rows of a file, the first few of them in full.

    Raises:
        DataError: there is any problem.
    """
    if not problems:
        return
    named = [f"{source}, {problem}" for problem in problems[:MOST_PROBLEMS]]
    if len(problems) > MOST_PROBLEMS:
        named.append(f"and {len(problems) - MOST_PROBLEMS:,} more")
    raise DataError("\n".join(named))


def _bytes(path: str) -> bytes:
    if path == STDIN:
        data = sys.stdin.buffer.read()
    else:
        place = Path(path)
        if place.is_dir():
            raise DataError(f"{path} is a folder; a file with one row per point is expected")
        try:
            data = place.read_bytes()
        except FileNotFoundError:
            beside = [str(p) for p in place.parent.glob("*.*sv*")] if place.parent.is_dir() else []
            raise NotFound(f"no file {path}{nearest(path, beside)}") from None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot read {path}: {error}") from None
    if data.startswith(b"\x1f\x8b"):
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} begins like a gzip file and cannot be unpacked: {error}") from None
    return data


def _decode(data: bytes, source: str) -> str:
    """UTF-8 and UTF-16 by their marks, else UTF-8, else Latin-1, in which every byte is a letter."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text[:100_000]:
        raise DataError(
            f"{source} is no text (it begins with {data[:8]!r}); export the points as CSV, "
            "one row per point, with a line of column names"
        )
    return text


def _uncommented(text: str) -> str:
    """The text with blank lines for what stands above the header as a comment.

    A line that begins with ``#`` is the header itself where numbers follow it.
    """
    lines = text.splitlines(keepends=True)
    for place, line in enumerate(lines):
        if not line.strip():
            continue
        later = next((other for other in lines[place + 1 :] if other.strip()), None)
        if not line.startswith("#") or later is None or _has_number(later):
            break
        lines[place] = "\n"
    return "".join(lines)


def _has_number(line: str) -> bool:
    return any(is_number(cell.strip('" ')) for cell in re.split(r"[,;|\t]| +", line) if cell)


def _delimiter(header: str) -> str:
    """What divides the header into most cells; white space where nothing else does."""
    counts = {mark: len(next(csv.reader([header], delimiter=mark))) for mark in _DELIMITERS}
    best = max(_DELIMITERS, key=counts.__getitem__)
    return best if counts[best] > 1 or " " not in header.strip() else " "


def _records(text: str, delimiter: str, source: str) -> list[tuple[int, list[str]]]:
    """Rows that are not blank, with their lines."""
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    records = []
    try:
        for cells in reader:
            if "".join(cells).strip():
                records.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: {error}") from None
    return records


def _header(line: int, cells: list[str], source: str) -> tuple[str, ...]:
    names = [cell.strip() for cell in cells]
    names[0] = names[0].removeprefix("#").strip()
    while names and not names[-1]:
        names.pop()
    if all(is_number(name) for name in names if name):
        raise DataError(
            f"{source}, line {line}: found {', '.join(cells)} where the names of columns are expected; "
            "add a first line such as run,compute,reward"
        )
    return tuple(names)


def is_number(text: str) -> bool:
    """Whether a cell reads as a number, with a point or a comma as its decimal mark."""
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True
