"""One ``<folder>.csv`` or ``<folder>.tsv`` a split, a clip or a caption a row: see ``rows``."""

from __future__ import annotations

import io
from collections.abc import Iterator

import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.data.files import split_file
from siglip_study.data.labels import Scan, Source, read_text
from siglip_study.data.rows import LabelRow, check_columns, clips_of

UNREAD = frozenset(["label_folder"])


def read(source: Source) -> Scan:
    """Columns are named in the first line; every value is a text, an empty one is absent.

    Raises:
        StudyError: the file is missing, leads outside the dataset's folder, is no table, or has a
            column that is unknown or lacks one that is needed.
    """
    name, rows = table_rows(source)
    return clips_of(rows, source, name)


def table_rows(source: Source) -> tuple[str, Iterator[LabelRow]]:
    """Name and rows of a split's table; the first row below the columns' names is number 2.

    Raises:
        StudyError: as :func:`read`.
    """
    name, content = split_file(source, f"{source.folder}.csv", f"{source.folder}.tsv")
    text = read_text(content)
    try:
        table = pl.read_csv(
            io.BytesIO(text.encode()),
            separator="\t" if name.endswith(".tsv") else ",",
            infer_schema=False,
        )
    except pl.exceptions.PolarsError as error:
        problem = str(error).splitlines()[0]
        raise StudyError(f"{source.root / name}: no readable table ({problem}).") from None
    check_columns(dict.fromkeys(table.columns, name), source, name)
    numbered = enumerate(table.iter_rows(named=True), start=2)
    return name, (LabelRow(f"{name}:{number}", values) for number, values in numbered)
