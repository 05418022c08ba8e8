"""Loads a party's table for a job, or tells everything that is wrong with it, without telling any value of it."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.csv_table import CsvTable, Findings
from infra.settings import PartySettings
from schemas.jobs import ColumnProfile, DataProfile, PartySpec, Role
from streams.dataset import Dataset, DatasetProblem

#: A column of which more than this share is numbers was meant to be numeric: the rest are mistakes, not another type.
NUMERIC_SHARE = 0.5


def load_dataset(
    settings: PartySettings,
    spec: PartySpec,
    *,
    role: Role,
    label: str,
    path_prefix: str,
    normalise: Callable[[str], str],
    fingerprint_key: bytes = b"",
) -> Dataset | DatasetProblem:
    """The table that `spec` names, rows in the order of the file; or all mistakes that can be found at once.

    `label` is the job's label column, read at the guest only. `normalise` brings an identifier into its canonical form
    and raises `ValueError` (with a text free of the value) for one that has none. The fingerprint is HMAC-SHA-256 over
    identifiers, columns, values and label: with a secret `fingerprint_key` no peer can test guesses of the table on it.
    """
    findings = Findings(path_prefix)
    dataset = settings.datasets.get(spec.dataset)
    if dataset is None:
        known = ", ".join(sorted(settings.datasets)) or "none"
        findings.add("dataset", f"{settings.party} has no dataset {spec.dataset!r}; it offers: {known}")
        return DatasetProblem(tuple(findings.mistakes))
    table = CsvTable(settings.resolve(dataset.path), dataset, findings)
    wanted_label = label if role is Role.GUEST else None
    columns = table.choose_columns(spec, label, wanted_label)
    frame = table.read(columns, wanted_label) if columns is not None else None
    if frame is None:
        return DatasetProblem(tuple(findings.mistakes))
    ids = _read_ids(frame[dataset.id], normalise, findings)
    names, values = _read_values(frame, columns or (), spec, findings)
    labels = None if wanted_label is None else _read_label(frame[wanted_label], wanted_label, findings)
    if findings.mistakes:
        return DatasetProblem(tuple(findings.mistakes))
    fingerprint = fingerprint_table(ids, names, values, labels, fingerprint_key)
    profile = DataProfile(len(ids), tuple(ColumnProfile(name) for name in names), fingerprint)
    return Dataset(ids, names, values, labels, profile)


def fingerprint_table(
    ids: tuple[str, ...],
    columns: tuple[str, ...],
    values: NDArray[np.float64],
    label: NDArray[np.int8] | None,
    key: bytes = b"",
) -> bytes:
    """32 bytes that change with every identifier, name, value, label and their order, and with nothing else."""
    digest = hmac.new(key, b"isthmus/dataset/1", "sha256")
    for texts in (ids, columns):
        digest.update(len(texts).to_bytes(8, "little"))
        for text in texts:
            encoded = text.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    # Adding zero makes -0.0 and 0.0, which are equal, equal in bytes as well.
    digest.update((np.ascontiguousarray(values, dtype="<f8") + 0.0).tobytes())
    digest.update(b"\0" if label is None else b"\1" + label.astype(np.int8).tobytes())
    return digest.digest()


def _read_ids(column: pd.Series[str], normalise: Callable[[str], str], findings: Findings) -> tuple[str, ...]:
    first_rows: dict[str, int] = {}
    ids: list[str] = []
    unusable: list[tuple[int, str]] = []
    duplicates: list[tuple[int, int]] = []
    for row, raw in enumerate(column.fillna("").tolist(), start=1):
        try:
            text = normalise(raw)
        except ValueError as error:
            unusable.append((row, str(error)))
            continue
        if text in first_rows:
            duplicates.append((first_rows[text], row))
        else:
            first_rows[text] = row
        ids.append(text)
    if unusable:
        row, reason = unusable[0]
        findings.add("dataset", f"{len(unusable)} identifiers cannot be used, the first in data row {row}: {reason}")
    if duplicates:
        first, second = duplicates[0]
        findings.add(
            "dataset",
            f"{len(duplicates)} rows repeat the identifier of an earlier row (after normalisation), for example data "
            f"rows {first} and {second}; keep one row for each identifier",
        )
    return tuple(ids)


def _read_values(
    frame: pd.DataFrame, candidates: tuple[str, ...], spec: PartySpec, findings: Findings
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    places: Mapping[str, str] = {name: f"features[{index}]" for index, name in reversed([*enumerate(spec.features)])}
    names: list[str] = []
    columns: list[NDArray[np.float64]] = []
    for name in candidates:
        numbers, wrong, missing, infinite = _to_numbers(frame[name])
        if name not in places and len(wrong) > (len(numbers) - len(missing)) * (1 - NUMERIC_SHARE):
            continue
        place = places.get(name, "features")
        for rows, what, cure in (
            (wrong, "are not numbers", "correct or encode them"),
            (missing, "are missing", "fill them or leave the column out"),
            (infinite, "are infinite", "correct them"),
        ):
            if len(rows):
                findings.add(
                    place,
                    f"{len(rows)} of {len(numbers)} values of column {name!r} {what}, the first in data row "
                    f"{rows[0] + 1}; {cure}",
                )
        names.append(name)
        columns.append(numbers)
    if not names and not spec.features:
        findings.add("features", f"the dataset {spec.dataset!r} has no numeric column besides identifier and label")
    values = np.column_stack(columns) if columns else np.empty((len(frame), 0))
    return tuple(names), np.ascontiguousarray(values, dtype=np.float64)


def _read_label(column: pd.Series[float], name: str, findings: Findings) -> NDArray[np.int8]:
    numbers, wrong, missing, _ = _to_numbers(column)
    if len(missing):
        findings.add_label(f"{len(missing)} values of {name!r} are missing, the first in data row {missing[0] + 1}")
    odd = np.flatnonzero(~np.isin(numbers, (0.0, 1.0)) & ~np.isnan(numbers))
    unusable = np.union1d(odd, wrong)
    if len(unusable):
        findings.add_label(
            f"{len(unusable)} values of {name!r} are neither 0 nor 1, the first in data row {unusable[0] + 1}; the "
            "label must be two classes, written 0 and 1"
        )
    elif not len(missing) and len(set(numbers.tolist())) < 2:
        findings.add_label(f"all values of {name!r} are equal: there is nothing to learn from them")
    return np.nan_to_num(numbers, posinf=0.0, neginf=0.0).astype(np.int8)


def _to_numbers(
    column: pd.Series[float],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The numbers (NaN where there is none), and the positions that are no number, are missing, are infinite."""
    missing = column.isna().to_numpy()
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = np.isnan(numbers) & ~missing
    return numbers, np.flatnonzero(wrong), np.flatnonzero(missing), np.flatnonzero(np.isinf(numbers))
