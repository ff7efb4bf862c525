"""One ``<folder>.parquet`` a split, a clip or a caption a row: see ``rows`` for its columns."""

from __future__ import annotations

import io

import polars as pl

from siglip_study.base.errors import StudyError
from siglip_study.data.files import split_file
from siglip_study.data.labels import Scan, Source
from siglip_study.data.rows import LabelRow, check_columns, clips_of

UNREAD = frozenset(["label_folder"])


def read(source: Source) -> Scan:
    """Lists, structs and numbers are read as they are; only columns that are known are loaded.

    Raises:
        StudyError: the file is missing, leads outside the dataset's folder, is no Parquet, or has a
            column that is unknown or lacks one that is needed.
    """
    name, content = split_file(source, f"{source.folder}.parquet")
    try:
        columns = list(pl.read_parquet_schema(io.BytesIO(content)))
        known = check_columns(dict.fromkeys(columns, name), source, name)
        table = pl.read_parquet(io.BytesIO(content), columns=known)
    except pl.exceptions.PolarsError as error:
        problem = str(error).splitlines()[0]
        raise StudyError(f"{source.root / name}: not Parquet ({problem}).") from None
    rows = (
        LabelRow(f"{name}:{number}", values)
        for number, values in enumerate(table.iter_rows(named=True), start=1)
    )
    return clips_of(rows, source, name)
