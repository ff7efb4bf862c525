"""The child process that opens clips, so that a decoder's crash costs one clip and not the run.

``python -m siglip_study.data.vet_worker <decoder> <frames>`` reads one JSON text (a path) a line
and answers each with one JSON object a line: the facts of the clip, or ``{"reason": …}``.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from siglip_study.data.clip_error import ClipError
from siglip_study.data.decoding import Decoder, check_every_frame, get_decoder


def vet(path: Path, decoder: Decoder, n_frames: int) -> dict[str, Any]:
    """Decode a clip from end to end, and its sampled frames with the study's decoder.

    Returns:
        duration_s, fps, n_frames, width, height and the file's sha256; or reason alone.
    """
    try:
        info = check_every_frame(path)
        decoder.read(path, n_frames)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except ClipError as error:
        return {"reason": str(error)}
    except OSError as error:
        return {"reason": f"unreadable: {error.strerror or error}"}
    return {
        "duration_s": info.duration_s,
        "fps": info.fps,
        "n_frames": info.n_frames,
        "width": info.width,
        "height": info.height,
        "sha256": digest,
    }


def main(decoder_name: str, n_frames: int) -> None:
    """Answer every line of standard input; end with it."""
    # What native libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    decoder = get_decoder(decoder_name)
    for line in sys.stdin:
        answer = vet(Path(json.loads(line)), decoder, n_frames)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
