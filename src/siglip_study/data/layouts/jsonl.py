"""One ``<folder>.jsonl`` a split, a clip or a caption a line: see ``rows`` for its columns."""

from __future__ import annotations

from siglip_study.data.files import split_file
from siglip_study.data.labels import LabelError, Scan, Source, parse_label
from siglip_study.data.rows import LabelRow, check_columns, clips_of

UNREAD = frozenset(["label_folder"])


def read(source: Source) -> Scan:
    """Columns are the keys of the lines' objects; ``captions`` may hold a list.

    Raises:
        StudyError: the file is missing, leads outside the dataset's folder, or has a column that is
            unknown or lacks one that is needed.
    """
    name, content = split_file(source, f"{source.folder}.jsonl")
    rows: list[LabelRow] = []
    columns: dict[str, str] = {}
    broken = Scan()
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            row = LabelRow(where, parse_label(line))
            rows.append(row)
            for column in row.values:
                columns.setdefault(column, where)
        except LabelError as error:
            broken.reject(where, name, str(error))
    if rows:
        check_columns(columns, source, name)
    scan = clips_of(rows, source, name)
    scan.rejected = broken.rejected + scan.rejected
    return scan
