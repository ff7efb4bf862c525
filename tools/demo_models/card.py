"""The model card of the micro models, written from what was trained and measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

from siglip_study.demo.world import ATTRIBUTES
from tools.demo_models.scenes import UNSEEN_SHARE

_INTRO = """\
# Micro models of the demo

Three real transformers classes at a very small size, trained from scratch on the procedural world
of `siglip_study.demo`, so that the workflow runs on two CPU cores with no network and its result
means something. They know nothing but that world.

| folder | class | role | parameters | bytes |
|---|---|---|---|---|
{sizes}

Remake them (figures will differ in the last digits; GPU kernels are not bit-reproducible):

```
python -m tools.demo_models --out resources/demo --device cuda
```

These took {seconds} s (vision, llm, scorer; data included) on
{device}, `--minutes` {minutes}, seed {vision[seed]}. The three can run at once, as three processes
that share a GPU: `--parts vision`, `--parts llm`, `--parts scorer`, and when all are done
`--parts quality`. Steps and seconds of each are in its `training.json`, all figures in
`quality.json`. On a CPU, `--device cpu --minutes 60` shortens each model's schedule to an hour, for
lower quality (not tried at length); `--scale tiny` takes seconds and proves only that it runs.

## Data

Scenes come from four pools that share no combination of facts and no render seed (`POOLS` in
`demo/world.py`): one for the demo's clips, one for each model below. Of each model's pool,
{unseen} % of the combinations are kept from training, and its quality is measured on those.

* **vision**: {vision[scenes]} scenes × 4 frames at random times; {vision[steps]} steps of
  {vision[batch]}. CLIP's contrastive loss against frame captions (what, where in the picture,
  place, weather; the text tower is thrown away). Beside it, linear heads on the patch tokens of the
  layer before the last (thrown away too) ask each token for the frame's thing, colour, size, count,
  place, weather, centre and zoom, and for what covers its own patch. This is supervision that a
  large CLIP does without; it makes patch tokens informative at this size.
* **llm**: captions, in the style of the clips, of {llm[scenes]} scenes; {llm[steps]} steps of
  {llm[batch]}. A tenth of the steps are captions with no video. In all others the video span holds
  64 or 16 *slots* filled with words that are true of the scene: pictures in text (4 frames × 16
  patches, each slot a word of what is there), lists, bags of words; a seventh of the requests are
  questions about one attribute. Half of the slots and more are *soft*: random mixtures of the
  embeddings of several true words. All are scaled, moved by a common offset and covered with noise.
  So the model learns to follow a prefix of vectors, as large language models can, and to infer
  motion from how positions change over frames. It has never seen an image, a feature of the vision
  tower, or a projector.
* **scorer**: {scorer[scenes]} scenes × 4 frames, captions in a style that shares no sentence
  template with the clips'; {scorer[steps]} steps of {scorer[batch]} with the sigmoid loss; captions
  whole, one sentence of them, or with words dropped or shuffled. Text is padded to 64 tokens, with
  no attention mask. It sees one frame at a time: the direction of motion is invisible to it.

## Measured quality
"""

_NOTES = """\
The language model by what its video span holds: `none` no span, `hard` one word a slot, `soft`
mixtures, `soft_noisy` with noise and offset, `pooled_16` mixtures averaged into 16 slots (which
often blurs positions, and with them motion, away), `bag_16` the eight facts stated. Hard and soft
slots leave out some facts at random, so not all accuracies can reach 1.

### Projector proof

The acceptance test: {clips} clips of the pool `clips`, tower and language model frozen, a
throw-away projector onto 64 tokens trained for {steps} steps of {batch}; facts stated right in the
greedy captions of {test} other clips of that pool.
"""


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _facts_row(name: str, values: dict[str, float]) -> list[str]:
    return [name, *(f"{values[a]:.2f}" for a in ATTRIBUTES)]


def _size(folder: Path) -> tuple[int, int]:
    path = folder / "model.safetensors"
    with safe_open(path, "pt") as tensors:
        count = sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    return count, path.stat().st_size


def card(folder: Path, found: dict[str, Any]) -> str:
    """The models' ``README.md`` from :func:`quality.measure`'s findings; sizes are the files'."""
    training = found["training"]
    roles = {
        "vision": (
            "CLIPVisionModel",
            "frozen vision tower; `hidden_states[-2]`, 16 patches of 192",
        ),
        "llm": ("Qwen3ForCausalLM", "language model, with tokenizer and chat template"),
        "scorer": ("SiglipModel", "scores captions against frames"),
    }
    sizes = []
    for name, (cls, role) in roles.items():
        count, size = _size(folder / name)
        sizes.append(f"| `{name}/` | {cls} | {role} | {count:,} | {size:,} |")
    text = _INTRO.format(
        sizes="\n".join(sizes),
        seconds=" + ".join(str(training[part]["seconds"]) for part in roles),
        device=training["vision"]["device"],
        minutes=training["vision"]["minutes"],
        unseen=round(100 * UNSEEN_SHARE),
        **training,
    )
    attributes = list(ATTRIBUTES)
    vision, llm, scorer = found["vision"], found["llm"], found["scorer"]
    text += "\n### Vision tower: linear probes on mean patch tokens (motion, camera: 4 frames)\n\n"
    text += _table(
        ["", *attributes],
        [
            _facts_row("accuracy", vision["linear_probe"]),
            _facts_row("most frequent value", vision["majority"]),
        ],
    )
    text += "\n### Language model\n\nPerplexity a caption token: "
    text += ", ".join(f"{k} {v:.3f}" for k, v in llm["perplexity"].items()) + ".\n\n"
    text += _table(
        ["facts in greedy captions", *attributes],
        [_facts_row(k, v) for k, v in llm["fact_accuracy"].items()],
    )
    text += f"\n### Scorer: caption to clip among {scorer['among']}\n\n"
    text += _table(
        ["captions", "R@1", "chance", "margin D"],
        [
            [k, f"{scorer[k]['r1']:.2f}", f"{scorer['chance']:.3f}", f"{scorer[k]['margin']:.3f}"]
            for k in ("scorer", "clips")
        ],
    )
    proof = found["projector_proof"]
    text += "\n" + _NOTES.format(**proof["sizes"]) + "\n"
    rows = [_facts_row("most frequent value", proof["majority"])]
    rows += [
        _facts_row(f"{run['projector']}, rate {run['learning_rate']:g}", run["fact_accuracy"])
        for run in proof["runs"]
    ]
    return text + _table(["", *attributes], rows)
