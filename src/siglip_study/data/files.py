"""Finding the files of a dataset, and staying in its folder.

``..`` and absolute paths never lead out of it, links only where the config says so.
"""

# Paths of clips are strings here: of ten thousand, making each a Path costs more than all else.
# ruff: noqa: PTH114, PTH118, PTH120

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path

from siglip_study.base.errors import StudyError
from siglip_study.data.labels import LabelError, Scan, Source, is_utf8

#: Names that files of videos have. What a file really holds is seen when it is opened.
_VIDEOS = """
.mp4 .m4v .mov .qt .3gp .3g2 .mkv .webm .avi .divx .ts .mts .m2ts .mpg .mpeg .m2v .vob .flv .wmv
.asf .ogv .ogg .mxf .rm .rmvb .gif
"""
VIDEO_SUFFIXES = frozenset(_VIDEOS.split())
#: A picture is a clip of one frame.
IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp"))


def _real(path: Path) -> Path:
    # Not Path.resolve, which raises where links lead in a circle.
    return Path(os.path.realpath(path))


def _within(root: Path, path: str | Path) -> str | None:
    """``path`` relative to ``root``, as both are written, else with their links resolved."""
    for spelt in (os.path.abspath, os.path.realpath):
        at, base = spelt(path), os.path.join(spelt(root), "")
        if f"{at}/".startswith(base):
            return at[len(base) :]
    return None


def is_inside(root: Path, path: Path, follow_links: bool = False) -> bool:
    """Whether a path lies in the dataset's folder, links being part of it only if followed."""
    if follow_links:
        return _within(root, path) is not None
    return _real(path).is_relative_to(_real(root))


def walk(
    base: Path, follow_links: bool, skip: Path | None = None
) -> Iterator[tuple[os.DirEntry[str], str | None]]:
    """Files below ``base``, hidden ones apart, and folders behind links with why not to enter.

    A link to a folder above itself is never followed, and the folder ``skip`` is left out. A file
    costs no call of the system but the listing of its folder.

    Raises:
        StudyError: a folder cannot be read.
    """
    pending = [(str(base), frozenset({_real(base)}))]
    while pending:
        folder, above = pending.pop()
        try:
            listed = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise StudyError(f"{folder}: cannot be read ({error.strerror}).") from None
        for entry in listed:
            is_link = entry.is_symlink()
            if entry.name.startswith("."):
                continue
            # A path's own is_dir takes links in a circle for files.
            if not (Path(entry).is_dir() if is_link else entry.is_dir()):
                yield entry, None
                continue
            real = _real(Path(entry))
            if skip is not None and real == _real(skip):
                continue
            if not is_link:
                pending.append((entry.path, above | {real} if follow_links else above))
            elif not follow_links:
                yield entry, "a linked folder is not followed without data.follow_links: true"
            elif real in above:
                yield entry, "a link to a folder above it is never followed"
            else:
                pending.append((entry.path, above | {real}))


def split_file(source: Source, *names: str) -> tuple[str, bytes]:
    """Name and content of a split's one file (a table of its clips, say).

    ``names`` are relative to the root, and the first that is there counts.

    Raises:
        StudyError: none is there, or it leads outside the dataset's folder.
        LabelError: it cannot be read.
    """
    for name in names:
        path = source.root / name
        if path.is_file():
            if not is_inside(source.root, path, source.follow_links):
                raise StudyError(
                    f"{path}: leads outside the dataset's folder; expected a file in it, or "
                    "data.follow_links: true for links."
                )
            return name, label_file(source, name)
    others = f" (nor {', '.join(names[1:])})" if names[1:] else ""
    raise StudyError(
        f"{source.root / names[0]}: no such file in the dataset's folder{others}; expected a split."
    )


def label_file(source: Source, path: str) -> bytes:
    """Content of a label's file; LabelError: it cannot be read."""
    try:
        return (source.root / path).read_bytes()
    except OSError as error:
        raise LabelError(f"broken label: cannot be read ({error.strerror})") from error


def files_by_id(
    source: Source, folder: str, suffixes: Collection[str], scan: Scan
) -> dict[str, list[str]]:
    """Id → paths of the files below ``folder`` with one of these suffixes; hidden files apart.

    The id is the file's stem after NFC normalisation (macOS stores Korean names decomposed). Links
    that are not followed and odd names go to ``scan.rejected``.

    Raises:
        StudyError: the folder is missing or leads outside the dataset's folder.
    """
    root, follow = source.root, source.follow_links
    base = Path(os.path.normpath(root / folder))
    if not base.is_dir():
        raise StudyError(f"{base}: no such folder; expected the files of a split.")
    if not is_inside(root, base, follow):
        raise StudyError(
            f"{base}: leads out of the dataset's folder {root}; expected a folder in it, or "
            "data.follow_links: true for links."
        )
    found: dict[str, list[str]] = defaultdict(list)
    within, start = base.relative_to(root).as_posix(), len(os.path.join(base, ""))
    for entry, why_not in walk(base, follow):
        relative = f"{within}/{entry.path[start:]}" if within != "." else entry.path[start:]
        stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 (a path more would cost more)
        clip = unicodedata.normalize("NFC", stem)
        if not is_utf8(relative):
            shown = os.fsencode(relative).decode("utf-8", "backslashreplace")
            scan.reject(Path(shown).stem, shown, "unreadable: odd file name")
        elif why_not:
            scan.reject(clip, relative, f"outside: {why_not}")
        elif suffix.lower() not in suffixes:
            continue
        elif entry.is_symlink() and not is_inside(root, Path(entry), follow):
            scan.reject(clip, relative, "outside: the file leads outside the dataset's folder")
        elif not Path(entry).is_file() if entry.is_symlink() else not entry.is_file():
            scan.reject(
                clip, relative, "unreadable: no file (a link to nothing, a pipe or the like)"
            )
        else:
            found[clip].append(relative)
    return {clip: sorted(paths) for clip, paths in found.items()}


def pairs(
    videos: dict[str, list[str]], labels: dict[str, list[str]], scan: Scan
) -> Iterator[tuple[str, str, str]]:
    """(id, path of the video, path of the label) where there is one of each, in order of ids.

    The others go to ``scan.rejected``. Arguments are as :func:`files_by_id` gives them.
    """
    for clip in sorted(videos.keys() | labels.keys()):
        paths, notes = videos.get(clip, []), labels.get(clip, [])
        twice = next((files for files in (paths, notes) if len(files) > 1), None)
        if twice:
            for path in twice:
                others = ", ".join(other for other in twice if other != path)
                scan.reject(clip, path, f"duplicate id: also {others}")
        elif not paths:
            scan.reject(clip, notes[0], "label without clip: no such video")
        elif not notes:
            scan.reject(clip, paths[0], "clip without label: no such label")
        else:
            yield clip, paths[0], notes[0]


class FileFinder:
    """The files that labels name, whichever way their names were composed.

    Args:
        source: the split; names are relative to ``source.video_folder``, else to the root.
        suffixes: of the files that a name without a suffix may stand for.
    """

    def __init__(self, source: Source, suffixes: Collection[str] = VIDEO_SUFFIXES) -> None:
        self._source = source
        self._base = source.root / (source.video_folder or "")
        self._suffixes = suffixes
        #: Folders of files that were found, and whether each lies in the dataset's own.
        self._inside: dict[str, bool] = {}
        self._by_stem: dict[str, list[str]] | None = None
        self._listed: dict[str, dict[str, str]] = {}

    def find(self, name: str) -> str:
        """Path, relative to the root, of the file of this name.

        It is looked for as it is written, then with its characters composed the other way; a name
        without folder and suffix stands for the one file of that stem, in subfolders too.

        Raises:
            LabelError: there is none, more than one, or it leads outside the dataset's folder.
        """
        try:
            written = _within(self._source.root, os.path.join(self._base, name))
            if written is None:
                raise LabelError("outside: the path leads outside the dataset's folder")
            found = written if self._is_file(written) else self._composed(written)
            if found is None or not (found is written or self._is_file(found)):
                return self._by_name(name)
            if not self._leads_inside(found):
                raise LabelError("outside: the path leads outside the dataset's folder")
        except OSError as error:  # a name that no file can have
            raise LabelError(f"label without clip: {error.strerror}") from error
        return found

    def _is_file(self, relative: str) -> bool:
        return (self._source.root / relative).is_file()

    def _leads_inside(self, relative: str) -> bool:
        # Links of folders are followed once for all their files: a call of the system a folder on
        # the way, which on a network's file system is most of what reading a table costs.
        root, follow = self._source.root, self._source.follow_links
        if os.path.islink(os.path.join(root, relative)):
            return is_inside(root, root / relative, follow)
        folder = os.path.dirname(relative)
        if folder not in self._inside:
            self._inside[folder] = is_inside(root, root / folder, follow)
        return self._inside[folder]

    def _composed(self, relative: str) -> str | None:
        folder = ""
        for part in relative.split("/"):
            if folder not in self._listed:
                path = self._source.root / folder
                names = os.listdir(path) if path.is_dir() else []  # noqa: PTH208 (names alone)
                self._listed[folder] = {unicodedata.normalize("NFC", name): name for name in names}
            name = self._listed[folder].get(unicodedata.normalize("NFC", part))
            if name is None:
                return None
            folder = os.path.join(folder, name)
        return folder

    def _by_name(self, name: str) -> str:
        if "/" in name or Path(name).suffix.lower() in self._suffixes:
            raise LabelError("label without clip: no such video")
        if self._by_stem is None:
            # What cannot be entered or read here is no clip's: only files that labels name count.
            folder = self._base.relative_to(self._source.root).as_posix()
            self._by_stem = files_by_id(self._source, folder, self._suffixes, Scan())
        found = self._by_stem.get(unicodedata.normalize("NFC", name), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise LabelError(f"duplicate id: {', '.join(found)}")
        raise LabelError("label without clip: no such video")
