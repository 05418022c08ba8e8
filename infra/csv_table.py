"""A CSV file of a party: which of its columns a job may use, and what is wrong with the file itself."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import pandas as pd

from infra.settings import DatasetSettings
from schemas.jobs import Mistake, PartySpec

#: What stands for a missing number. An identifier is taken as it is written, even if it is `NA`.
MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"]
#: Rows that pandas reads at a time: it takes some hundred bytes for each field.
PIECE_ROWS = 50_000


class UnreadableTableError(Exception):
    """The table cannot be read on; the findings say why."""


@dataclass
class Findings:
    """Mistakes so far; `prefix` is the party's place in the spec, such as `hosts[0]`."""

    prefix: str
    mistakes: list[Mistake] = field(default_factory=list)

    def add(self, path: str, message: str) -> None:
        """Note a mistake at `path` of the party's share."""
        self.mistakes.append(Mistake(f"{self.prefix}.{path}", message))

    def add_label(self, message: str) -> None:
        """The label stands beside the parties in a spec, not below one."""
        self.mistakes.append(Mistake("label", message))


@dataclass(frozen=True)
class CsvTable:
    """One CSV file, plain or gzip."""

    path: Path
    settings: DatasetSettings
    findings: Findings

    def choose_columns(self, spec: PartySpec, label: str, wanted_label: str | None) -> tuple[str, ...] | None:
        """The feature columns to look at, in order: all candidates when the spec names none. None without a table."""
        header = self._read_header()
        if header is None:
            return None
        repeated = sorted(name for name, count in Counter(header).items() if count > 1)
        if repeated:
            self.findings.add("dataset", f"the file {self.path} names columns twice: {', '.join(map(repr, repeated))}")
            return None
        present, reserved = set(header), {self.settings.id, self.settings.label, wanted_label}
        usable = True
        if self.settings.id not in present:
            self.findings.add("dataset", f"the identifier column {self.settings.id!r} is not in {self.path}")
            usable = False
        if wanted_label is not None:
            usable = self._check_label(present, wanted_label) and usable
        seen: set[str] = set()
        for position, name in enumerate(spec.features):
            place = f"features[{position}]"
            if name in seen:
                self.findings.add(place, f"{name!r} is listed twice")
            elif name == self.settings.id:
                self.findings.add(place, f"{name!r} is the identifier column, which cannot be a feature")
            elif name in reserved:
                self.findings.add(place, f"{name!r} is a label column, which cannot be a feature")
            elif name not in present:
                self.findings.add(place, f"there is no column {name!r} in the dataset {spec.dataset!r}")
            seen.add(name)
        features = spec.features or tuple(name for name in header if name not in reserved)
        if not usable:
            return None
        return tuple(name for name in dict.fromkeys(features) if name in present and name not in reserved)

    def _check_label(self, present: set[str], label: str) -> bool:
        if label not in present:
            self.findings.add_label(f"there is no column {label!r} in the dataset of {self.findings.prefix}")
        elif self.settings.label not in (None, label):
            self.findings.add_label(
                f"the settings of this dataset allow {self.settings.label!r} as label, not {label!r}"
            )
        elif label == self.settings.id:
            self.findings.add_label(f"{label!r} is the identifier column, which cannot be the label")
        else:
            return True
        return False

    def read(self, columns: tuple[str, ...], label: str | None) -> Iterator[pd.DataFrame]:
        """The columns in question, piece by piece. Raises `UnreadableTableError` when they cannot be parsed."""
        wanted = [self.settings.id, *columns, *([label] if label is not None else [])]
        others = [name for name in wanted if name != self.settings.id]
        rows = 0
        try:
            with (
                self._open() as file,
                pd.read_csv(
                    file,
                    usecols=wanted,
                    dtype={self.settings.id: str},
                    keep_default_na=False,
                    na_values=dict.fromkeys(others, MISSING),
                    index_col=False,
                    low_memory=False,
                    chunksize=PIECE_ROWS,
                ) as pieces,
            ):
                for piece in pieces:
                    rows += len(piece)
                    yield piece
        except (OSError, EOFError, zlib.error, ValueError) as error:
            self._cannot_read(error)
            raise UnreadableTableError from error
        if not rows:
            self.findings.add("dataset", f"{self.path} has a header but no rows")
            raise UnreadableTableError

    def _read_header(self) -> list[str] | None:
        try:
            with self._open() as file:
                rows = csv.reader(file)
                header = next(rows, None)
                # pandas would fill short rows up, and cut long ones off or take their first fields for an index.
                odd = next((rows.line_num for row in rows if row and len(row) != len(header or ())), None)
        except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
            self._cannot_read(error)
            return None
        if not header:
            self.findings.add("dataset", f"{self.path} is empty; the first line should name the columns")
            return None
        if odd is not None:
            self.findings.add(
                "dataset", f"line {odd} of {self.path} has not as many fields as the first, {len(header)}"
            )
            return None
        return header

    def _open(self) -> TextIO:
        """Text without a byte order mark, which spreadsheets like to put in front of the first column's name."""
        if self.path.suffix == ".gz":
            return io.TextIOWrapper(gzip.open(self.path), encoding="utf-8-sig", newline="")
        return self.path.open(encoding="utf-8-sig", newline="")

    def _cannot_read(self, error: Exception) -> None:
        match error:
            case FileNotFoundError():
                message = f"the file {self.path} does not exist; correct `path` of this dataset in the settings"
            case UnicodeDecodeError():
                message = f"the file {self.path} is not UTF-8 text at byte {error.start}; convert it"
            case gzip.BadGzipFile() | EOFError() | zlib.error():
                message = f"the file {self.path} is not a whole gzip file"
            case OSError():
                message = f"the file {self.path} cannot be read: {error.strerror or error}"
            case _:
                # The parser's own texts tell lines and counts, no values.
                message = f"the file {self.path} is not a table of comma-separated values: {error}"
        self.findings.add("dataset", message)
