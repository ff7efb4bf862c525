"""What planning takes as given: how large the dataset and the models are, counted or assumed.

Nothing is fetched and no weight is opened.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siglip_study.base.errors import StudyError
from siglip_study.config.study import Config
from siglip_study.data.layouts import scan_split
from siglip_study.models.sizes import LlmShape, TowerShape, llm_shape, text_shape, vision_shape
from siglip_study.study.paths import Paths

if TYPE_CHECKING:
    from siglip_study.models.llm import PromptLayout
    from siglip_study.planning.workload import Connector
    from siglip_study.projectors.base import Projector

#: Clips of the published study, assumed where there is no dataset yet.
ASSUMED_CLIPS = {"train": 865, "held_out": 97}
#: Mean tokens of the published study's captions (311 to 708 long).
ASSUMED_TOKENS = 450
#: Around an assumed mean, lengths are spread evenly between these multiples of it.
_ASSUMED_SPREAD = (0.7, 1.4)
#: Characters a token where captions are at hand and the tokenizer is not (Korean, Qwen3).
_CHARACTERS_A_TOKEN = 1.6
#: Captions that are tokenised; more would not change the mean.
_SAMPLE = 400
#: Tokens before and after the video where the tokenizer is not at hand (Qwen3, default prompt).
ASSUMED_PROMPT = (4, 24)


@dataclass(frozen=True)
class Assumptions:
    """What is taken for granted in place of what is on disk; None: counted, or a default."""

    train: int | None = None
    held_out: int | None = None
    caption_tokens: int | None = None
    gpu: str = "h200"
    presets: bool = False


# ---- The dataset.


@dataclass(frozen=True)
class Dataset:
    """Clips of each split, and the caption lengths in tokens (EOS included), ascending.

    ``sources`` says in sentences where each of the two comes from.
    """

    clips: dict[str, int]
    lengths: tuple[int, ...]
    sources: tuple[str, ...]

    @property
    def mean_tokens(self) -> float:
        """Mean caption length in tokens."""
        return sum(self.lengths) / len(self.lengths)

    def typical(self, n: int) -> list[int]:
        """``n`` lengths spread over the distribution: the middles of ``n`` equal shares."""
        last = len(self.lengths) - 1
        return [self.lengths[min(last, int((i + 0.5) / n * len(self.lengths)))] for i in range(n)]


def describe_dataset(config: Config, tokenizer: Any, given: Assumptions) -> Dataset:
    """Count clips and measure captions (with the LLM's tokenizer, if at hand), or assume them.

    Raises:
        StudyError: the dataset is there and a split of it is not.
    """
    clips, captions, source = _clips(config, given)
    limit, tokens = config.training.max_target_tokens, given.caption_tokens
    if tokens is None and captions and tokenizer is not None:
        flat = tokenizer(captions, add_special_tokens=False)["input_ids"]
        lengths, told = [len(row) + 1 for row in flat], f"{len(flat)} captions, tokenised"
    elif tokens is None and captions:
        lengths = [round(len(text) / _CHARACTERS_A_TOKEN) + 1 for text in captions]
        told = (
            f"characters of {len(captions)} captions over {_CHARACTERS_A_TOKEN}, "
            "since the tokenizer is not at hand"
        )
    else:
        mean = tokens or min(ASSUMED_TOKENS, max(1, round(0.75 * limit)))
        low, high = _ASSUMED_SPREAD
        # Symmetric in number, not in length: as many below the mean as above it.
        lengths = [round(mean * (low + (1 - low) * i / 8)) for i in range(8)]
        lengths += [round(mean * (1 + (high - 1) * i / 6)) for i in range(1, 7)]
        told = "assumed"
    cut = sorted(max(1, min(length, limit)) for length in lengths)
    mean_tokens = sum(cut) / len(cut)
    if "held_out" in clips:
        half = clips["held_out"] // 2
        halves = {"selection": half, "report": clips["held_out"] - half}
        clips = {"train": clips["train"], **halves}
    sources = (source, f"captions of {mean_tokens:.0f} tokens on average: {told}")
    return Dataset(clips, tuple(cut), sources)


def _clips(config: Config, given: Assumptions) -> tuple[dict[str, int], list[str], str]:
    """Clips of each split, a sample of captions if they can be read, and where both come from."""
    clips: dict[str, int]
    captions: list[str] = []
    manifest, root = Paths(config.output_dir).manifest, config.data_root
    if given.train is not None or given.held_out is not None:
        named = {"train": given.train, "held_out": given.held_out}
        clips, told = {split: n or ASSUMED_CLIPS[split] for split, n in named.items()}, "as given"
    # The rehearsal also runs on machines without the table reader.
    elif manifest.is_file() and importlib.util.find_spec("polars") is not None:
        import polars as pl

        rows = pl.read_parquet(manifest, columns=["split", "captions"])
        clips, told = dict(rows["split"].value_counts().iter_rows()), f"counted in {manifest}"
        captions = [texts[0] for texts in rows["captions"].to_list()]
    elif root.is_dir():
        clips, told = {}, f"counted in {root}"
        for split, folder in config.data.splits.items():
            found = scan_split(config.data, root, folder).clips
            if not found:
                raise StudyError(
                    f"{root / folder}: no clip with a label for split '{split}'; expected at "
                    "least one."
                )
            clips[split] = len(found)
            captions += [clip.captions[0] for clip in found]
    elif config.demo is not None:
        demo = config.demo
        clips = {"train": demo.train, "selection": demo.selection, "report": demo.report}
        told = "as the demo will make them"
    else:
        clips, told = dict(ASSUMED_CLIPS), f"assumed, since {root} is not there"
    listed = ", ".join(f"{n} {split}" for split, n in clips.items())
    return clips, captions[:: max(1, len(captions) // _SAMPLE)], f"clips {listed}: {told}"


# ---- The models.


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of the four towers, and the patch grid that projectors see."""

    llm: LlmShape
    vision: TowerShape
    scorer_images: TowerShape
    scorer_texts: TowerShape
    grid: tuple[int, int]

    @property
    def patches(self) -> int:
        """P, the patches of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def vision_dim(self) -> int:
        """V, the width of the features."""
        return self.vision.width

    def projector(self, connector: Connector, frames: int, device: str = "meta") -> Projector:
        """A projector of this connector; on ``meta`` it costs neither time nor memory."""
        import torch

        from siglip_study import projectors

        shape = projectors.FeatureShape(frames, self.grid, self.vision_dim)
        with torch.device(device):
            return projectors.build(connector.type, shape, self.llm.width, **connector.options)


def model_facts(config: Config) -> ModelFacts:
    """Sizes of a study's models, from their config files.

    Raises:
        StudyError: a model's config is not at hand, or is of no supported kind.
    """
    from siglip_study.models.hub import architecture

    vision, scorer, llm = config.vision, config.scorer, config.llm
    raw = architecture(vision.model, vision.revision, "vision.model")
    size = frame_size(raw, vision.model, "vision.model")
    patch = int(raw.get("vision_config", raw).get("patch_size", 32))
    raw_scorer = architecture(scorer.model, scorer.revision, "scorer.model")
    scorer_size = frame_size(raw_scorer, scorer.model, "scorer.model")
    raw_llm = architecture(llm.model, llm.revision, "llm.model")
    return ModelFacts(
        llm=llm_shape(raw_llm, f"llm.model {llm.model}"),
        vision=vision_shape(raw, size, vision.layer),
        scorer_images=vision_shape(raw_scorer, scorer_size, -1),
        scorer_texts=text_shape(raw_scorer),
        grid=(size[0] // patch, size[1] // patch),
    )


def frame_size(config: Mapping[str, Any], model: str, key: str) -> tuple[int, int]:
    """Pixels of a frame: as the image processor makes it where its settings are at hand."""
    from siglip_study.features.images import PatchTransform, image_settings, transform_from
    from siglip_study.models.hub import image_processor, is_folder

    settings = image_processor(model)
    if is_folder(model):
        settings = image_settings(model, None, key, "pretrained")
    if settings is not None:
        made = PatchTransform if config.get("model_type") == "siglip2" else transform_from
        return made(settings, f"{key} '{model}'").size
    side = int(config.get("vision_config", config).get("image_size", 224))
    return side, side


def tokenizer_at_hand(config: Config) -> Any:
    """The LLM's tokenizer if it is on this machine, else None."""
    from transformers import AutoTokenizer

    from siglip_study.models.hub import quiet_transformers

    llm = config.llm
    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(
                llm.model, revision=llm.revision, local_files_only=True, trust_remote_code=False
            )
    except (OSError, ValueError):
        return None


def prompt_at_hand(config: Config, tokenizer: Any, vocab: int) -> PromptLayout:
    """The prompt's layout, or one of the assumed length where there is no tokenizer."""
    from siglip_study.models.llm import PromptLayout, prompt_layout

    if tokenizer is not None:
        return prompt_layout(tokenizer, config.llm)
    before, after = ASSUMED_PROMPT
    last = vocab - 1
    return PromptLayout((1,) * before, (1,) * after, (1,) * (before + after), last, last)
