"""Train the micro models of the demo afresh.

Run with: ``python -m tools.demo_models --out resources/demo [--device cuda]``
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from time import monotonic
from typing import Any

from siglip_study.base.io import atomic_path, read_json, write_json

PARTS = ("vision", "llm", "scorer", "quality")
SCALE_NAMES = ("full", "tiny")
LOG_SCHEMA, QUALITY_SCHEMA = "demo_training/1", "demo_quality/1"


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.demo_models", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the models")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--scale", choices=SCALE_NAMES, default="full")
    parser.add_argument("--minutes", type=float, help="shorten each model's training to this")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Train the parts asked for, then measure them and write ``quality.json`` and the card."""
    args = _arguments(argv)
    # Imported here: the rendering processes import this module again and need none of it.
    import torch

    from tools.demo_models.card import card
    from tools.demo_models.lm import train_lm
    from tools.demo_models.quality import measure
    from tools.demo_models.scales import SCALES
    from tools.demo_models.scorer import train_scorer
    from tools.demo_models.tower import train_tower

    trainers = {"vision": train_tower, "llm": train_lm, "scorer": train_scorer}
    scale, device = SCALES[args.scale], torch.device(args.device)
    for part in args.parts:
        if part == "quality":
            continue
        start = monotonic()
        log: dict[str, Any] = trainers[part](
            args.out / part, getattr(scale, part), args.minutes, args.seed, device,
            args.workers,
        )  # fmt: skip
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
        log |= {"seed": args.seed, "minutes": args.minutes, "device": name}
        log["seconds"] = round(monotonic() - start)
        write_json(args.out / part / "training.json", log, LOG_SCHEMA)
    if "quality" in args.parts:
        found = measure(args.out, scale.test_scenes, args.seed, device, args.workers)
        found["training"] = {
            part: read_json(args.out / part / "training.json", LOG_SCHEMA) for part in trainers
        }
        write_json(args.out / "quality.json", json.loads(json.dumps(found)), QUALITY_SCHEMA)
        with atomic_path(args.out / "README.md") as partial:
            partial.write_text(card(args.out, found), encoding="utf-8")


if __name__ == "__main__":
    main()
