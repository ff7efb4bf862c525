"""Vision tower and scorer as saved folders, so that both sides load the very same weights.

At micro size they are the demo's; at full size they have random weights, and the scorer has the
demo's tokenizer (the real one needs a download; what a text costs depends on its length alone).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.inputs import FULL, SEED, Size

DEMO = Path(__file__).parents[1] / "resources" / "demo"


@contextmanager
def tower_folder(size: Size, device: torch.device) -> Iterator[Path]:
    """A CLIP vision tower with its image settings."""
    if size is not FULL:
        yield DEMO / "vision"
        return
    from transformers import CLIPVisionConfig, CLIPVisionModel

    config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
        projection_dim=768,
    )
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": 336},
        "crop_size": {"height": 336, "width": 336},
    }
    with _saved(CLIPVisionModel, config, processor, device) as folder:
        yield folder


@contextmanager
def scorer_folder(size: Size, device: torch.device) -> Iterator[Path]:
    """A SigLIP model with its image settings and a tokenizer."""
    if size is not FULL:
        yield DEMO / "scorer"
        return
    from transformers import SiglipConfig, SiglipModel

    shape = {
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
    }
    config = SiglipConfig(
        text_config={**shape, "vocab_size": 256_000, "max_position_embeddings": 64},
        vision_config={**shape, "image_size": 384, "patch_size": 14},
    )
    processor = {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": 384, "width": 384},
    }
    with _saved(SiglipModel, config, processor, device) as folder:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(DEMO / "scorer" / name, folder / name)
        yield folder


@contextmanager
def _saved(
    kind: Any, config: Any, processor: dict[str, Any], device: torch.device
) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        torch.manual_seed(SEED)
        with torch.device(device):
            model = kind(config)
        model.to(torch.bfloat16).save_pretrained(name)
        path = Path(name) / "preprocessor_config.json"
        path.write_text(json.dumps(processor), encoding="utf-8")
        yield Path(name)
