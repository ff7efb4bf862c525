"""Caption clips with a trained run of a study.

Run with::

    python -m siglip_study.captioning results/runs/linear_a7daac0c clip.mp4 more/ > captions.jsonl
    python -m siglip_study.captioning results/runs/linear_a7daac0c more/ --format srt --out srt/

A folder stands for the videos in it, subfolders included, ``@list.txt`` for its lines. A clip that
cannot be used is told on the terminal, and in its row; the others are captioned, and the command
ends with 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from siglip_study.base.errors import ClipError, StudyError
from siglip_study.base.jobs import exit_status, share_cores
from siglip_study.config.study import RuntimeConfig
from siglip_study.data.files import VIDEO_SUFFIXES


@dataclass(frozen=True)
class CaptionRow:
    """A clip with what was said of it, or why nothing was."""

    clip: str
    caption: str | None = None
    n_tokens: int | None = None
    truncated: bool | None = None
    error: str | None = None


def find_clips(given: Sequence[Path]) -> list[Path]:
    """The video files that paths name, folders searched.

    Raises:
        StudyError: a path is not there, or a folder holds no video.
    """
    found: list[Path] = []
    for path in given:
        inside = [path]
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        if not inside or not path.exists():
            what = "holds no video" if path.is_dir() else "no such file"
            raise StudyError(f"{path}: {what}; expected a video, or a folder with one at least.")
        found += inside
    return found


def caption_rows(
    run: Path, clips: Sequence[Path], runtime: RuntimeConfig, budget: int | None, batch: int
) -> Iterator[CaptionRow]:
    """Caption clips one after the other, told on the terminal as they come."""
    from siglip_study.captioning.video_captioner import VideoCaptioner

    for n, (clip, said) in enumerate(
        zip(clips, VideoCaptioner(run, runtime)(clips, budget, batch), strict=True), start=1
    ):
        if isinstance(said, ClipError):
            print(f"{n} of {len(clips)}: {clip}: {said}", file=sys.stderr)
            yield CaptionRow(str(clip), error=str(said))
        else:
            print(f"{n} of {len(clips)}: {clip}", file=sys.stderr)
            yield CaptionRow(str(clip), said.text, said.n_tokens, said.truncated)


# ---- Formats.


def write_jsonl(rows: Iterable[CaptionRow], out: TextIO) -> None:
    """An object a line."""
    for row in rows:
        print(json.dumps(asdict(row), ensure_ascii=False), file=out, flush=True)


def write_csv(rows: Iterable[CaptionRow], out: TextIO) -> None:
    """A line a clip, with a head."""
    writer = csv.DictWriter(out, list(CaptionRow.__dataclass_fields__))
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)


def write_srt(row: CaptionRow, folder: Path) -> None:
    """A subtitle file of one cue, which stands as long as the clip lasts."""
    from siglip_study.data.probing import probe_clip

    ms = round(1000 * probe_clip(Path(row.clip)).duration_s)
    ends = f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"
    # A blank line would end the cue.
    text = "\n".join(line for line in (row.caption or "").splitlines() if line.strip())
    path = folder / f"{Path(row.clip).stem}.srt"
    path.write_text(f"1\n00:00:00,000 --> {ends}\n{text}\n", encoding="utf-8")


def caption_files(given: argparse.Namespace) -> int:
    """Caption and write; 1 where a clip could not be used.

    Raises:
        StudyError: nothing to caption, no such run, or two clips would have one subtitle file.
    """
    clips = find_clips(given.clips)
    runtime = RuntimeConfig(device=given.device)
    rows = caption_rows(given.run, clips, runtime, given.max_new_tokens, given.batch)
    failed = 0

    def counted() -> Iterator[CaptionRow]:
        nonlocal failed
        for row in rows:
            failed += row.error is not None
            yield row

    if given.format == "srt":
        if given.out is None:
            raise StudyError("--out: absent; expected a folder for the subtitle files.")
        stems = [clip.stem for clip in clips]
        if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
            raise StudyError(f"{twice[0]}.srt: of several clips; expected names that differ.")
        given.out.mkdir(parents=True, exist_ok=True)
        for row in counted():
            if row.error is None:
                write_srt(row, given.out)
    else:
        write = {"jsonl": write_jsonl, "csv": write_csv}[given.format]
        place = nullcontext(sys.stdout)
        if given.out is not None:
            place = given.out.open("w", encoding="utf-8", newline="")
        with place as out:
            write(counted(), out)
    return int(failed > 0)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m siglip_study.captioning``; 1 on a user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m siglip_study.captioning", description=__doc__, fromfile_prefix_chars="@"
    )
    parser.add_argument("run", type=Path, help="runs/<cell> of a study's results")
    parser.add_argument("clips", type=Path, nargs="+", help="videos, folders, @a list of them")
    parser.add_argument("--format", choices=["jsonl", "csv", "srt"], default="jsonl")
    parser.add_argument("--out", type=Path, help="file (srt: folder); default: the terminal")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--batch", type=int, default=8, help="clips captioned together")
    parser.add_argument("--max-new-tokens", type=int, help="budget of a caption")
    given = parser.parse_args(arguments)
    share_cores()
    return exit_status(lambda: caption_files(given))


if __name__ == "__main__":
    raise SystemExit(main())
