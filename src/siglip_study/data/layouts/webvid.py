"""WebVid: one ``<folder>.csv`` a split; a clip lies in ``<page_dir>/<videoid>.mp4``."""

from __future__ import annotations

from dataclasses import replace

from siglip_study.data.labels import LabelKeys, Scan, Source
from siglip_study.data.layouts.csv import table_rows
from siglip_study.data.rows import LabelRow, clips_of

KEYS = LabelKeys(id="videoid", caption="name")
#: Columns as published, which a table may have lost some of.
COLUMNS = ("videoid", "contentUrl", "duration", "page_dir", "name")
UNREAD = frozenset(["label_folder"])


def read(source: Source) -> Scan:
    """One caption a clip; ``data.video_folder`` is the folder above those of ``page_dir``.

    Raises:
        StudyError: the file is missing, leads outside the dataset's folder, or has other columns.
    """
    name, rows = table_rows(replace(source, ignored=source.ignored | set(COLUMNS)))
    whole = []
    for row in rows:
        folder = row.values.get("page_dir")
        path = f"{folder}/{row.values['videoid']}.mp4" if folder else None
        whole.append(LabelRow(row.where, {**row.values, source.keys.path: path}))
    return clips_of(whole, source, name)
