"""Is the dataset there, does it have what the config names, and can its clips be read?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from siglip_study.base.errors import StudyError
from siglip_study.config.loading import Config
from siglip_study.data.layouts import LabelKeys, Scan, get_layout
from siglip_study.planning.findings import Finding, Premises

#: Clips of a split below which its intervals say little.
_FEW_CLIPS = 20


def check_data(premises: Premises) -> Iterator[Finding]:
    """Folder, splits, labels; one clip of each split is decoded."""
    config, root = premises.config, premises.data_root
    if not root.is_dir():
        if config.demo is not None and config.data.root is None:
            yield Finding("ok", "data", f"the demo's clips will be made in {root}.")
        else:
            yield Finding("failed", "data", f"data.root is {root}, and there is no such folder.")
        return
    for split, folder in config.data.splits.items():
        try:
            scan = _scan(config, root, folder)
        except StudyError as error:
            yield Finding("failed", "data", str(error))
            continue
        yield from _split(config, root, split, folder, scan)


def _scan(config: Config, root: Path, folder: str) -> Scan:
    data = config.data
    keys = LabelKeys(data.caption_key, data.group_key, data.category_key)
    return get_layout(data.layout)(root, folder, keys)


def _split(config: Config, root: Path, split: str, folder: str, scan: Scan) -> Iterator[Finding]:
    if not scan.entries:
        reasons = "; ".join(f"{r.path}: {r.reason}" for r in scan.rejected[:2])
        found = f" ({len(scan.rejected)} rejected: {reasons})" if scan.rejected else ""
        yield Finding(
            "failed", "data", f"{split} ({root / folder}) has no usable clip with a label{found}."
        )
        return
    count = len(scan.entries)
    if scan.rejected:
        first = scan.rejected[0]
        yield Finding(
            "warning",
            "data",
            f"{split}: {count} clips with labels, {len(scan.rejected)} rejected, the first "
            f"{first.path}: {first.reason}.",
        )
    else:
        yield Finding("ok", "data", f"{split}: {count} clips with labels.")
    if split != "train" and count < _FEW_CLIPS:
        yield Finding("warning", "data", f"{split}: {count} clips; intervals will be wide.")
    groups = {entry.group for entry in scan.entries}
    if split == "held_out" and len(groups) < 2:
        yield Finding(
            "failed", "data", f"{split}: one source video; expected two, to halve the split."
        )
    yield _decodes(config, root, split, scan)


def _decodes(config: Config, root: Path, split: str, scan: Scan) -> Finding:
    """The first clip, read as the encoder will."""
    from siglip_study.data.clip_error import ClipError
    from siglip_study.data.decoding import get_decoder

    entry = scan.entries[0]
    try:
        frames = get_decoder(config.data.decoder).read(root / entry.path, config.vision.frames)
    except ClipError as error:
        # One clip may be broken; the manifest rejects it by name.
        return Finding("warning", "data", f"{split}: {entry.path} cannot be decoded ({error}).")
    height, width = frames.shape[1:3]
    return Finding("ok", "data", f"{split}: {entry.path} decodes, {width}×{height} pixels.")
