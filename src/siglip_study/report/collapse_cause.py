"""Why a captioner collapsed: rules over the history of its training, each a function.

A rule looks at one measured :class:`History` and gives a clause or None. Causes are asked in the
order of :data:`CAUSES` and the first one that speaks is told; what comes first in the chain from
encoder to captions explains what comes after. docs/how-to-read-the-report.md explains every
threshold.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

from siglip_study.report.results import LOST, NOTHING, History, lost_in
from siglip_study.report.wording import sentence
from siglip_study.report.words import number, rate

#: Encoder features of which less than this share differs between videos are alike.
ENCODER_ALIKE = 0.02
#: Adapters that got more than this share of the squared gradient norm trained alone.
LORA_TOOK = 0.9
#: A gradient norm over this multiple of the median of the steps before it has exploded.
EXPLODED = 10.0
#: Steps that must lie before an explosion: there is no median of two.
STEPS_BEFORE = 5
#: A median gradient norm under this part of the first steps' has vanished.
VANISHED = 0.1
#: Attention under this entropy reads one key; over 1 minus this, it averages all of them.
ATTENTION_EDGE = 0.05
#: Nats a token by which the training loss must fall for learning by heart to be spoken of.
LEARNED = 0.1


def by_design(history: History) -> str | None:
    """A control whose tokens are the same for every video by construction."""
    if history.role != "control_blind":
        return None
    return "its tokens are one learned constant for every video, by design"


def encoder_alike(history: History) -> str | None:
    """The encoder's own features hardly differ: there was nothing to pass on."""
    row = history.measured[0]
    share = row["diag_video_share_before"]
    if share is None or share >= ENCODER_ALIKE:
        return None
    return (
        f"the encoder's own features are alike ({_percent(share)} of them differs between videos, "
        f"cosine {number(row['diag_cosine_before'], 2)}): there is nothing that a projector could "
        "pass on"
    )


def never_there(history: History) -> str | None:
    """Tokens were alike before training and stayed so."""
    first = history.start.get("diag_video_share_after")
    shares = [row["diag_video_share_after"] for row in history.measured]
    if first is None or max([first, *(s for s in shares if s is not None)]) >= NOTHING:
        return None
    return (
        f"tokens of all videos were alike before training ({_percent(first)} of them depended on "
        "the video) and stayed so: its initialisation hides the video and training did not find it"
    )


def projector_lost_video(history: History) -> str | None:
    """Tokens of all videos became alike in an epoch."""
    row = lost_in(history)
    if row is None:
        return None
    place = history.measured.index(row)
    before = history.measured[place - 1] if place else history.start
    changes = ", ".join(
        f"{what} {number(before.get(key), digits)} → {number(row[key], digits)}"
        for what, key, digits in (
            ("share that depends on the video", "diag_video_share_after", 3),
            ("between-video cosine", "diag_cosine_after", 2),
            ("effective rank", "diag_rank_clips", 1),
        )
        if before.get(key) is not None and row[key] is not None
    )
    clauses = [
        f"tokens of all videos became alike in epoch {row['epoch']} of stage {row['stage']} "
        f"({changes}): the projector lost the video"
    ]
    clauses += [text for rule in ASIDES if (text := rule(history, row))]
    last = history.measured[-1]["diag_video_share_after"]
    if last is not None and last >= LOST * history.start["diag_video_share_after"]:
        clauses.append(f"some of it came back ({_percent(last)} at the end), too late")
    return "; ".join(clauses)


def mixed_up(history: History) -> str | None:
    """Tokens differ, but not as the videos do: neighbours survive no better than chance."""
    if history.low_diversity is False and history.grounded is not False:
        return None
    row = history.measured[-1]
    overlap = row["diag_neighbour_overlap"]
    chance, spread = chance_overlap(row["diag_n"])
    if overlap is None or overlap >= chance + 2 * spread:
        return None
    return (
        f"tokens stay apart ({_percent(row['diag_video_share_after'])} of them depends on the "
        "video), but videos that are alike no longer have tokens that are alike (of their nearest "
        f"neighbours {_percent(overlap)} survive, by chance {_percent(chance)}): the projector "
        "scrambled what the encoder saw"
    )


def chance_overlap(clips: int, neighbours: int = 5) -> tuple[float, float]:
    """Neighbour overlap of clips whose tokens have nothing to do with them: mean and its spread.

    k of n − 1 others are near; k draws a clip of chance k / (n − 1), clips taken as independent.
    """
    k = min(neighbours, max(0, clips - 1) // 2)
    if k == 0:
        return 0.0, 0.0
    chance = k / (clips - 1)
    return chance, math.sqrt(chance * (1 - chance) / (k * clips))


def language_model_ignores(history: History) -> str | None:
    """Tokens stay apart while captions do not."""
    if history.low_diversity is not True:
        return None
    row = history.measured[-1]
    text = (
        f"tokens stay apart ({_percent(row['diag_video_share_after'])} of them depends on the "
        f"video, between-video cosine {number(row['diag_cosine_after'], 2)}), but captions do not "
        f"(effective captions {number(history.effective_captions, 2)}, people's "
        f"{number(history.reference_captions, 2)}): the language model ignores them"
    )
    lora = row.get("grad_share_lora")
    if lora is not None and lora > LORA_TOOK:
        text += f"; LoRA took {_percent(lora)} of the squared gradient norm"
    exploded = explosion(history, row)
    return text if exploded is None else f"{text}; {exploded}"


def learned_by_heart(history: History) -> str | None:
    """Training loss fell, held-out loss did not: nothing that was learned holds for other clips."""
    if history.grounded is True or len(history.epochs) < 2:
        return None
    first, last = history.epochs[0], history.epochs[-1]
    fell = first["train_loss"] - last["train_loss"]
    if fell < LEARNED or last["val_loss"] < first["val_loss"]:
        return None
    return (
        f"the training loss fell ({number(first['train_loss'], 2)} → "
        f"{number(last['train_loss'], 2)}) and that of other clips did not "
        f"({number(first['val_loss'], 2)} → {number(last['val_loss'], 2)}): the training clips "
        "were learned by heart, and what the features say does not carry over"
    )


# ---- What is said beside a cause.


def explosion(history: History, row: dict[str, Any]) -> str | None:
    """The gradient norm of a step up to the end of an epoch stands far above those before it."""
    steps = [s for s in history.steps if _order(s) <= _order(row)]
    for i in range(STEPS_BEFORE, len(steps)):
        same = [s["grad_norm"] for s in steps[:i] if s["stage"] == steps[i]["stage"]]
        if len(same) < STEPS_BEFORE:
            continue
        usual, norm = statistics.median(same), steps[i]["grad_norm"]
        if norm > EXPLODED * usual > 0:
            return (
                f"the gradient norm exploded at step {steps[i]['step']} of stage "
                f"{steps[i]['stage']} ({norm:.2g}, until then {usual:.2g}): the learning "
                "rate is too high"
            )
    return None


def saturated_attention(history: History, row: dict[str, Any]) -> str | None:
    """Every query reads one patch, or averages all of them."""
    entropy = row["diag_attention_entropy"]
    if entropy is None or ATTENTION_EDGE <= entropy <= 1 - ATTENTION_EDGE:
        return None
    how = "each query reads a single patch" if entropy < 0.5 else "each query averages all patches"
    return f"{how} (attention entropy {number(entropy, 2)})"


def vanished(history: History, row: dict[str, Any]) -> str | None:
    """Once the video is lost, hardly any gradient leads back to it."""
    stage = [s for s in history.steps if s["stage"] == row["stage"]]
    after = [s["grad_norm"] for s in stage if _order(s) > _order(row)]
    first = [s["grad_norm"] for s in stage[:STEPS_BEFORE]]
    if len(after) < STEPS_BEFORE or not first:
        return None
    early, late = statistics.median(first), statistics.median(after)
    if late >= VANISHED * early:
        return None
    return (
        f"since then hardly any gradient leads back (median norm {early:.2g} in the first "
        f"{STEPS_BEFORE} steps, {late:.2g} after it)"
    )


ASIDES: tuple[Callable[[History, dict[str, Any]], str | None], ...] = (
    explosion,
    saturated_attention,
    vanished,
)

#: From the encoder to the captions.
CAUSES: tuple[Callable[[History], str | None], ...] = (
    by_design,
    encoder_alike,
    never_there,
    projector_lost_video,
    mixed_up,
    language_model_ignores,
    learned_by_heart,
)


def why(history: History, others: tuple[History, ...] = ()) -> str:
    """One sentence on a cell: the cause of its failure, or that there is none to be seen.

    Args:
        history: of the cell.
        others: histories of the study; one of the same design at a lower rate that kept the video
            shows that the rate was at fault.
    """
    if not history.measured:
        return "Not measured: training.diagnosis_clips is 0, or the run is older than it."
    for cause in CAUSES:
        text = cause(history)
        if text is not None:
            calm = cooler(history, others) if cause is projector_lost_video else None
            return sentence(f"{text}; {calm}" if calm else text)
    last = history.measured[-1]
    share = _percent(last["diag_video_share_after"])
    kept = f"tokens follow the video to the end ({share} of them depends on it)"
    reads = saturated_attention(history, last)
    kept += f"; {reads}" if reads else ""
    if history.collapsed:
        return f"No cause to be seen in its training: {kept}."
    if history.grounded is False:
        return f"No collapse, but captions that were not shown to fit their clips: {kept}."
    return f"No collapse: {kept}."


def cooler(history: History, others: tuple[History, ...]) -> str | None:
    """Whether the same design kept the video at a lower rate of stage 1."""
    if history.stage1_rate is None:
        return None
    kept = [
        other.stage1_rate
        for other in others
        if other.design == history.design
        and other.stage1_rate is not None
        and other.stage1_rate < history.stage1_rate
        and other.measured
        and lost_in(other) is None
    ]
    if not kept:
        return None
    return (
        f"at stage-1 rate {rate(max(kept))} the same design keeps the video, so that rate "
        f"{rate(history.stage1_rate)} is too high"
    )


def _order(row: dict[str, Any]) -> tuple[int, int]:
    return int(row["stage"]), int(row["step"])


def _percent(share: float | None) -> str:
    if share is None or not math.isfinite(share):
        return "–"
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 1 or percent == 0 else f"{percent:.1g} %"
