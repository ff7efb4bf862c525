"""Why a captioner collapsed: rules over the history of its training, each a function.

A rule looks at one measured :class:`History` and gives a clause or None. Causes are asked in the
order of :data:`CAUSES` and the first one that speaks is told; what comes first in the chain from
encoder to captions explains what comes after. docs/how-to-read-the-report.md explains every
threshold.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from siglip_study.report.language import AND_THEN, Text, join, said, sentence, texts
from siglip_study.report.results import LOST, NOTHING, OF_ONE_HALF, ROLES, History, lost_in
from siglip_study.report.words import number, rate

_clause = partial(said, texts("collapse"))

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


def by_design(history: History) -> Text | None:
    """A control whose tokens are the same for every video by construction."""
    if history.role != "control_blind":
        return None
    return _clause("by_design")


def encoder_alike(history: History) -> Text | None:
    """The encoder's own features hardly differ: there was nothing to pass on."""
    row = history.measured[0]
    share = row["diag_video_share_before"]
    if share is None or share >= ENCODER_ALIKE:
        return None
    cosine = number(row["diag_cosine_before"], 2)
    return _clause("encoder_alike", share=_percent(share), cosine=cosine)


def never_there(history: History) -> Text | None:
    """Tokens were alike before training and stayed so."""
    first = history.start.get("diag_video_share_after")
    shares = [row["diag_video_share_after"] for row in history.measured]
    if first is None or max([first, *(s for s in shares if s is not None)]) >= NOTHING:
        return None
    return _clause("never_there", share=_percent(first))


def projector_lost_video(history: History) -> Text | None:
    """Tokens of all videos became alike in an epoch."""
    row = lost_in(history)
    if row is None:
        return None
    place = history.measured.index(row)
    before = history.measured[place - 1] if place else history.start
    changes = [
        _clause(what)
        + Text.same(f" {number(before.get(key), digits)} → {number(row[key], digits)}")
        for what, key, digits in (
            ("lost.share", "diag_video_share_after", 3),
            ("lost.cosine", "diag_cosine_after", 2),
            ("lost.rank", "diag_rank_clips", 1),
        )
        if before.get(key) is not None and row[key] is not None
    ]
    clauses = [_clause("lost", epoch=row["epoch"], stage=row["stage"], changes=join(", ", changes))]
    clauses += [text for rule in ASIDES if (text := rule(history, row))]
    last = history.measured[-1]["diag_video_share_after"]
    if last is not None and last >= LOST * history.start["diag_video_share_after"]:
        clauses.append(_clause("lost.back", share=_percent(last)))
    return join(AND_THEN, clauses)


def mixed_up(history: History) -> Text | None:
    """Tokens differ, but not as the videos do: neighbours survive no better than chance."""
    if history.low_diversity is False and history.grounded is not False:
        return None
    row = history.measured[-1]
    overlap = row["diag_neighbour_overlap"]
    chance, spread = chance_overlap(row["diag_n"])
    if overlap is None or overlap >= chance + 2 * spread:
        return None
    return _clause(
        "mixed_up",
        share=_percent(row["diag_video_share_after"]),
        overlap=_percent(overlap),
        chance=_percent(chance),
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


def language_model_ignores(history: History) -> Text | None:
    """Tokens stay apart while captions do not."""
    if history.low_diversity is not True:
        return None
    row = history.measured[-1]
    clauses = [
        _clause(
            "ignored",
            share=_percent(row["diag_video_share_after"]),
            cosine=number(row["diag_cosine_after"], 2),
            own=number(history.effective_captions, 2),
            people=number(history.reference_captions, 2),
        )
    ]
    lora = row.get("grad_share_lora")
    if lora is not None and lora > LORA_TOOK:
        clauses.append(_clause("ignored.lora", share=_percent(lora)))
    exploded = explosion(history, row)
    return join(AND_THEN, clauses if exploded is None else [*clauses, exploded])


def learned_by_heart(history: History) -> Text | None:
    """Training loss fell, held-out loss did not: nothing that was learned holds for other clips."""
    if history.grounded is True or len(history.epochs) < 2:
        return None
    first, last = history.epochs[0], history.epochs[-1]
    fell = first["train_loss"] - last["train_loss"]
    if fell < LEARNED or last["val_loss"] < first["val_loss"]:
        return None
    train, other = (
        f"{number(first[key], 2)} → {number(last[key], 2)}" for key in ("train_loss", "val_loss")
    )
    return _clause("by_heart", train=train, other=other)


# ---- What is said beside a cause.


def explosion(history: History, row: dict[str, Any]) -> Text | None:
    """The gradient norm of a step up to the end of an epoch stands far above those before it."""
    steps = [s for s in history.steps if _order(s) <= _order(row)]
    for i in range(STEPS_BEFORE, len(steps)):
        same = [s["grad_norm"] for s in steps[:i] if s["stage"] == steps[i]["stage"]]
        if len(same) < STEPS_BEFORE:
            continue
        usual, norm = statistics.median(same), steps[i]["grad_norm"]
        if norm > EXPLODED * usual > 0:
            where = {"step": steps[i]["step"], "stage": steps[i]["stage"]}
            return _clause("exploded", **where, norm=norm, usual=usual)
    return None


def saturated_attention(history: History, row: dict[str, Any]) -> Text | None:
    """Every query reads one patch, or averages all of them."""
    entropy = row["diag_attention_entropy"]
    if entropy is None or ATTENTION_EDGE <= entropy <= 1 - ATTENTION_EDGE:
        return None
    how = "attention.single" if entropy < 0.5 else "attention.all"
    return _clause(how, entropy=number(entropy, 2))


def vanished(history: History, row: dict[str, Any]) -> Text | None:
    """Once the video is lost, hardly any gradient leads back to it."""
    stage = [s for s in history.steps if s["stage"] == row["stage"]]
    after = [s["grad_norm"] for s in stage if _order(s) > _order(row)]
    first = [s["grad_norm"] for s in stage[:STEPS_BEFORE]]
    if len(after) < STEPS_BEFORE or not first:
        return None
    early, late = statistics.median(first), statistics.median(after)
    if late >= VANISHED * early:
        return None
    return _clause("vanished", early=early, late=late, steps=STEPS_BEFORE)


ASIDES: tuple[Callable[[History, dict[str, Any]], Text | None], ...] = (
    explosion,
    saturated_attention,
    vanished,
)

#: From the encoder to the captions.
CAUSES: tuple[Callable[[History], Text | None], ...] = (
    by_design,
    encoder_alike,
    never_there,
    projector_lost_video,
    mixed_up,
    language_model_ignores,
    learned_by_heart,
)


def why(history: History, others: tuple[History, ...] = ()) -> Text:
    """One sentence on a cell: the cause of its failure, or that there is none to be seen.

    Args:
        history: of the cell.
        others: histories of the study; one of the same design at a lower rate that kept the video
            shows that the rate was at fault.
    """
    if not history.measured:
        return _clause("not_measured")
    for cause in CAUSES:
        text = cause(history)
        if text is not None:
            calm = cooler(history, others) if cause is projector_lost_video else None
            return sentence(join(AND_THEN, [text, calm]) if calm else text)
    last = history.measured[-1]
    share = _percent(last["diag_video_share_after"])
    kept = _clause("kept", share=share)
    reads = saturated_attention(history, last)
    kept = join(AND_THEN, [kept, reads]) if reads else kept
    if history.collapsed:
        return _clause("no_cause", kept=kept)
    return _clause("not_grounded" if history.grounded is False else "no_collapse", kept=kept)


def cooler(history: History, others: tuple[History, ...]) -> Text | None:
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
    return _clause("cooler", calm=rate(max(kept)), own=rate(history.stage1_rate))


def _order(row: dict[str, Any]) -> tuple[int, int]:
    return int(row["stage"]), int(row["step"])


def _percent(share: float | None) -> str:
    if share is None or not math.isfinite(share):
        return "–"
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 1 or percent == 0 else f"{percent:.1g} %"


# ---- On the page.


def diagnosis_view(histories: Sequence[History]) -> dict[str, Any] | None:
    """What the section says: ``{"rows", "clips"}``, a row being a history with its sentence.

    None where no run was measured, as with ``training.diagnosis_clips`` 0.
    """
    if not any(history.measured for history in histories):
        return None
    return {
        "rows": [
            {
                "history": history,
                "last": history.measured[-1] if history.measured else {},
                "run": run_name(history),
                "why": why(history, tuple(histories)),
            }
            for history in histories
        ],
        "clips": max(row["diag_n"] for h in histories for row in h.measured),
    }


def run_name(history: History) -> Text:
    """The role; with the cell, where runs of one projector and seed report a half each."""
    role = ROLES[history.role]
    if not history.reports_half:
        return role
    return role + OF_ONE_HALF + Text.same(f" ({history.cell})")
