"""Loads a party's table for a job, or tells everything that is wrong with it, without telling any value of it."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from infra.csv_table import CsvTable, Findings, UnreadableTableError
from infra.settings import PartySettings
from infra.table_columns import IdentifierColumn, NumberColumn, Numbers
from schemas.jobs import ColumnProfile, DataProfile, PartySpec, Role
from streams.dataset import Dataset, DatasetProblem
from streams.identifiers import Identifiers

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
    if columns is None:
        return DatasetProblem(tuple(findings.mistakes))
    identifiers = IdentifierColumn(normalise)
    read = {name: NumberColumn() for name in (*columns, *(() if wanted_label is None else (wanted_label,)))}
    try:
        for piece in table.read(columns, wanted_label):
            identifiers.add(piece[dataset.id])
            for name, column in read.items():
                column.add(piece[name])
    except UnreadableTableError:
        return DatasetProblem(tuple(findings.mistakes))
    ids = _check_ids(identifiers, findings)
    names, values = _check_values({name: read.pop(name).numbers() for name in columns}, spec, findings)
    labels = None if wanted_label is None else _check_label(read.pop(wanted_label).numbers(), wanted_label, findings)
    if findings.mistakes:
        return DatasetProblem(tuple(findings.mistakes))
    fingerprint = fingerprint_table(ids, names, values, labels, fingerprint_key)
    profile = DataProfile(len(ids), tuple(ColumnProfile(name) for name in names), fingerprint)
    return Dataset(ids, names, values, labels, profile)


def fingerprint_table(
    ids: Identifiers,
    columns: tuple[str, ...],
    values: NDArray[np.float64],
    label: NDArray[np.int8] | None,
    key: bytes = b"",
) -> bytes:
    """32 bytes that change with every identifier, name, value, label and their order, and with nothing else."""
    digest = hmac.new(key, b"isthmus/dataset/2", "sha256")
    for texts in (ids, Identifiers.of(columns)):
        digest.update(len(texts).to_bytes(8, "little"))
        digest.update(texts.ends.astype("<u8").data)
        digest.update(texts.content)
    # Adding zero makes -0.0 and 0.0, which are equal, equal in bytes as well.
    digest.update((np.ascontiguousarray(values, dtype="<f8") + 0.0).ravel().data)
    digest.update(b"\0" if label is None else b"\1" + label.astype(np.int8).tobytes())
    return digest.digest()


def _check_ids(identifiers: IdentifierColumn, findings: Findings) -> Identifiers:
    if identifiers.unusable:
        row, reason = identifiers.first_unusable
        findings.add(
            "dataset", f"{identifiers.unusable} identifiers cannot be used, the first in data row {row}: {reason}"
        )
    if repeated := identifiers.find_repeated():
        first, second = repeated[0]
        findings.add(
            "dataset",
            f"{len(repeated)} rows repeat the identifier of an earlier row (after normalisation), for example data "
            f"rows {first} and {second}; keep one row for each identifier",
        )
    return identifiers.identifiers()


def _check_values(
    candidates: Mapping[str, Numbers], spec: PartySpec, findings: Findings
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    places: Mapping[str, str] = {name: f"features[{index}]" for index, name in reversed([*enumerate(spec.features)])}
    found: dict[str, NDArray[np.float64]] = {}
    for name, numbers in candidates.items():
        if name not in places and len(numbers.wrong) > (len(numbers.values) - len(numbers.missing)) * (
            1 - NUMERIC_SHARE
        ):
            continue
        place = places.get(name, "features")
        for odd, what, cure in (
            (numbers.wrong, "are not numbers", "correct or encode them"),
            (numbers.missing, "are missing", "fill them or leave the column out"),
            (numbers.infinite, "are infinite", "correct them"),
        ):
            if len(odd):
                findings.add(
                    place,
                    f"{len(odd)} of {len(numbers.values)} values of column {name!r} {what}, the first in data row "
                    f"{odd[0] + 1}; {cure}",
                )
        found[name] = numbers.values
    if not found and not spec.features:
        findings.add("features", f"the dataset {spec.dataset!r} has no numeric column besides identifier and label")
    return tuple(found), np.column_stack(list(found.values())) if found else np.empty((0, 0))


def _check_label(numbers: Numbers, name: str, findings: Findings) -> NDArray[np.int8]:
    values, missing = numbers.values, numbers.missing
    if len(missing):
        findings.add_label(f"{len(missing)} values of {name!r} are missing, the first in data row {missing[0] + 1}")
    odd = np.flatnonzero((values != 0.0) & (values != 1.0) & ~np.isnan(values))
    unusable = np.union1d(odd, numbers.wrong)
    if len(unusable):
        findings.add_label(
            f"{len(unusable)} values of {name!r} are neither 0 nor 1, the first in data row {unusable[0] + 1}; the "
            "label must be two classes, written 0 and 1"
        )
    elif not len(missing) and values.min() == values.max():
        findings.add_label(f"all values of {name!r} are equal: there is nothing to learn from them")
    return np.nan_to_num(values, posinf=0.0, neginf=0.0).astype(np.int8)
