"""The gate: published runs collapse, references never do, and nothing misleads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.metrics.diversity import clusters, effective_captions, top_cluster_share
from siglip_study.metrics.grounding import grounding_margin
from siglip_study.metrics.siglip import score_matrix
from siglip_study.ranking.gate import (
    Candidate,
    GateThresholds,
    GateVerdict,
    References,
    gate,
    gate_all,
    gate_by_diversity_alone,
)
from siglip_study.ranking.procedure import Entry, Refusal, rank_study
from siglip_study.ranking.scorer_check import check_scorer

HUMAN = References(effective=0.9, top_share=0.03, mean_margin=0.1)
WIDTH = 32


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def margins(mean: float, sd: float = 0.05, seeds: int = 3, groups: int = 97) -> np.ndarray:
    """Margins whose mean is exactly ``mean``."""
    x = np.random.default_rng(0).normal(0, sd, (seeds, groups))
    return x - x.mean() + mean


# Final distinct ratio of the published runs E5-v2, E5-v3 and E7-v2, of 97 captions; one for all.
@pytest.mark.parametrize("ratio", [0.11, 0.06, 0.08, 0.01])
def test_published_runs_are_collapsed(ratio: float) -> None:
    # Margins of captions that do not depend on the clip, measured as we measure.
    n_distinct = round(ratio * 97)
    rng = np.random.default_rng(n_distinct)
    caption = rng.integers(n_distinct, size=97)
    scores = rng.normal(0.1, 0.03, (n_distinct, 97))[caption]
    shares = np.bincount(caption, minlength=n_distinct) / 97
    effective = float(np.exp(-(shares * np.log(shares)).sum())) / 97
    measured = gate(effective, shares.max(), grounding_margin(scores), HUMAN)
    assert measured.verdict == "collapsed"


def test_rounding_of_identical_captions_is_no_grounding() -> None:
    noise = 3e-8 + np.random.default_rng(0).normal(0, 1e-8, 97)  # far above 0 by a t-test
    assert gate(1 / 97, 1.0, noise, HUMAN).verdict == "collapsed"


def test_the_three_other_verdicts() -> None:
    assert gate([0.8] * 3, [0.03] * 3, margins(0.05), HUMAN).verdict == "grounded"
    assert gate([0.8] * 3, [0.03] * 3, margins(0.0, 0.01), HUMAN).verdict == "ungrounded"
    assert gate([0.8] * 3, [0.03] * 3, margins(0.002, 0.2), HUMAN).verdict == "undetermined"


def test_one_collapsed_seed_of_three_is_stamped() -> None:
    verdict = gate([0.9, 0.8, 0.1], [0.03, 0.03, 0.05], margins(0.05), HUMAN)
    assert verdict.low_diversity is False
    assert "low_in_some_seeds" in verdict.stamps
    assert verdict.diversity.low_seeds == 1


def test_seeds_and_multiplicity_count() -> None:
    # Clips alone say grounded; seeds that disagree say otherwise.
    x = margins(0.02, 0.02)
    assert gate([0.9] * 3, [0.03] * 3, x, HUMAN).verdict == "grounded"
    swinging = x + np.array([[-0.08], [0.0], [0.08]])
    assert gate([0.9] * 3, [0.03] * 3, swinging, HUMAN).verdict == "undetermined"
    one = gate(0.9, 0.03, margins(0.02, seeds=1), HUMAN)
    assert "clips_only" in one.stamps
    # p = .03 alone is not enough among ten.
    sd = 0.05
    mean = 1.9 * sd / np.sqrt(97)
    weak = Candidate([0.9], [0.03], margins(mean, sd, seeds=1))
    assert gate_all({"a": weak}, HUMAN)["a"].verdict == "grounded"
    ten = gate_all({f"p{i}": weak for i in range(10)}, HUMAN)
    assert {v.verdict for v in ten.values()} == {"undetermined"}


def test_captions_drawn_blindly_are_rarely_called_grounded() -> None:
    # Eight captions handed out at random to clips that come in five categories.
    rng = np.random.default_rng(4)
    grounded = 0
    for _ in range(400):
        clips = rng.normal(size=(5, 16))[rng.integers(5, size=60)]
        clips = unit(clips + 0.5 * rng.normal(size=(60, 16)))
        captions = unit(rng.normal(size=(8, 16)))[rng.integers(8, size=60)]
        verdict = gate(0.1, 0.3, grounding_margin(captions @ clips.T), HUMAN)
        grounded += verdict.verdict == "grounded"
    assert grounded / 400 <= 0.05 + 3 * (0.05 * 0.95 / 400) ** 0.5


# ---- Captions, references and figures chosen to mislead it.


def measured(captions: list[str], matrix: np.ndarray, human: References = HUMAN) -> GateVerdict:
    """Gate captions as the study does, from their texts and their score matrix."""
    cluster = clusters(captions)
    empty = np.array([not caption for caption in captions])
    margins = grounding_margin(matrix, empty)
    return gate(effective_captions(cluster), top_cluster_share(cluster), margins, human)


def figures(captions: list[str], matrix: np.ndarray) -> References:
    cluster = clusters(captions)
    mean = float(grounding_margin(matrix).mean())
    return References(effective_captions(cluster), top_cluster_share(cluster), mean)


def words(n: int, seed: int) -> list[str]:
    """Captions without a common stretch."""
    rng = np.random.default_rng(seed)
    return ["".join(chr(0xAC00 + c) for c in rng.integers(0, 11_000, 20)) for _ in range(n)]


def published() -> list[dict]:
    path = Path(__file__).parents[2] / "resources/published_runs.json"
    return json.loads(path.read_text(encoding="utf-8"))["runs"]


@pytest.mark.parametrize("run", published(), ids=lambda run: run["id"])
def test_published_rows_as_the_file_has_them(run: dict) -> None:
    """Those that finished had collapsed in every epoch."""
    ratios = run["stage2"]["diversity"]
    verdicts = [gate_by_diversity_alone(ratio).verdict for ratio in ratios]
    # Distinct strings prove nothing: in E1-v2 and E3-v2 every caption opened alike.
    assert verdicts[-1] == ("undetermined" if ratios[-1] == 1.0 else "collapsed")
    if run["stage2"]["finished"]:
        assert set(verdicts) == {"collapsed"}


@pytest.mark.parametrize("n", [2, 3, 10, 97])
@pytest.mark.parametrize("signal", [0.0, 0.3, 1.0])
def test_references_against_themselves_never_collapse(n: int, signal: float) -> None:
    # Whatever the scorer makes of them, and however alike they are.
    rng = np.random.default_rng(n)
    clips = unit(rng.normal(size=(n, WIDTH)))
    matrix = unit(signal * clips + rng.normal(size=(n, WIDTH))) @ clips.T
    for captions in (words(n, 1), ["같은 말"] * n, words(1, 2) * (n // 2) + words(n - n // 2, 3)):
        human = figures(captions, matrix)
        verdict = measured(captions, matrix, human)
        assert verdict.verdict != "collapsed"
        assert not verdict.low_diversity


def test_empty_captions_everywhere_collapse() -> None:
    n = 40
    clips = unit(np.random.default_rng(0).normal(size=(n, WIDTH)))
    nothing = [np.zeros((0, WIDTH))] * n
    matrix = score_matrix(nothing, [np.zeros(0)] * n, clips)
    verdict = measured([""] * n, matrix)
    assert (verdict.verdict, verdict.low_diversity) == ("collapsed", True)
    assert verdict.margin.mean == 0.0
    assert verdict.diversity.effective == pytest.approx(1 / n)


def test_speaking_on_one_clip_alone_is_not_grounded() -> None:
    # A model that is silent but for the one clip it surely knows.
    n = 40
    clips = unit(np.random.default_rng(0).normal(size=(n, WIDTH)))
    matrix = np.full((n, n), -1.0)
    matrix[7] = clips[7] @ clips.T
    captions = [""] * n
    captions[7] = words(1, 0)[0]
    assert measured(captions, matrix).verdict == "collapsed"


@pytest.mark.parametrize("n", [10, 97])
def test_all_references_alike_switch_the_test_off_and_ground_nobody(n: int) -> None:
    # One caption for every clip: D of the references is 0 and a tenth of it too.
    row = np.random.default_rng(0).normal(0.2, 0.05, n)
    same = np.tile(row, (n, 1))
    human = figures(["같은 말"] * n, same)
    assert human.mean_margin == pytest.approx(0, abs=1e-12)
    verdict = measured(["같은 말"] * n, same, human)
    assert not verdict.may_be_ranked and verdict.low_diversity is None
    assert "diversity_unknown" in verdict.stamps


def test_right_facts_in_one_boilerplate_are_ranked_under_a_stamp() -> None:
    right = np.random.default_rng(3).normal(0.08, 0.02, (3, 60))
    boilerplate = gate([0.1] * 3, [0.3] * 3, right, HUMAN)
    assert (boilerplate.verdict, boilerplate.reason) == ("grounded", "templated")
    assert boilerplate.may_be_ranked and boilerplate.stamps == ("templated",)
    assert "templated" not in gate([0.8] * 3, [0.03] * 3, right, HUMAN).stamps
    assert "templated" not in gate([0.1] * 3, [0.3] * 3, right - 0.08, HUMAN).stamps


def test_references_worse_than_chance_make_nobody_grounded() -> None:
    margins = np.random.default_rng(0).normal(-0.05, 0.01, (3, 60))
    verdict = gate([0.8] * 3, [0.05] * 3, margins, replace(HUMAN, mean_margin=-0.01))
    assert verdict.verdict == "ungrounded"
    above = gate([0.8] * 3, [0.05] * 3, -margins, replace(HUMAN, mean_margin=-0.01))
    assert above.verdict == "grounded"


@pytest.mark.parametrize("seeds", [1, 3])
def test_one_group_is_never_grounded_and_collapses_if_it_says_one_thing(seeds: int) -> None:
    huge = np.full((seeds, 1), 5.0)
    assert gate([0.8] * seeds, [0.05] * seeds, huge, HUMAN).verdict == "undetermined"
    assert gate([0.1] * seeds, [0.9] * seeds, huge, HUMAN).verdict == "collapsed"
    assert gate([0.8] * seeds, [0.05] * seeds, huge, HUMAN).margin.lower is None


def test_two_clips_cannot_ground_by_a_shared_mean() -> None:
    # Of two clips both get the mean D: no variance, and a p of 0 were it taken at its word.
    margins = grounding_margin(np.array([[0.5, 0.1], [0.2, 0.6]]))
    assert margins[0] == margins[1] > 0
    assert gate(1.0, 0.5, margins, HUMAN).verdict != "grounded"
    check = check_scorer(np.array([[0.5, 0.1], [0.2, 0.6]]), ["v1", "v2"])
    assert not check.can_tell and not check.human_scale
    entries = {
        label: Entry(margins * scale * np.array([[1.0], [1.01], [0.99]]), [1.0] * 3, [0.5] * 3)
        for label, scale in (("a", 1.0), ("b", 0.5))
    }
    found = rank_study(entries, ["v1", "v2"], HUMAN, replace(check, can_tell=True))
    assert found.answer.refusal == Refusal("two_clips")


def test_ties_get_the_same_verdict_in_any_order() -> None:
    table = np.random.default_rng(1).normal(0.02, 0.05, (3, 60))
    same = Candidate([0.8] * 3, [0.05] * 3, table)
    verdicts = gate_all({"b": same, "a": same, "c": same}, HUMAN)
    assert len({(v.verdict, v.p_holm) for v in verdicts.values()}) == 1
    turned = gate_all({"c": same, "a": same, "b": same}, HUMAN)
    assert {k: v.verdict for k, v in turned.items()} == {k: v.verdict for k, v in verdicts.items()}


def test_thresholds_themselves_are_no_low_diversity() -> None:
    human = References(effective=0.8, top_share=0.1, mean_margin=0.1)
    flat = np.zeros((1, 60))
    assert gate(0.4, 0.2, flat, human).low_diversity is False
    assert gate(np.nextafter(0.4, 0), 0.2, flat, human).low_diversity is True
    assert gate(0.4, np.nextafter(0.2, 1), flat, human).low_diversity is True
    templated = replace(human, effective=0.2)
    assert gate(0.05, 0.9, flat, templated).low_diversity is True
    assert gate(0.05, 0.9, flat, replace(human, effective=0.1999)).low_diversity is None


def test_every_threshold_moves_a_verdict() -> None:
    flat = np.random.default_rng(2).normal(0, 0.01, (3, 60))
    flat -= flat.mean()

    def verdict(effective: float, top: float, **limits: float) -> str:
        given = GateThresholds(**limits)
        return gate([effective] * 3, [top] * 3, flat, HUMAN, given).verdict

    assert verdict(0.4, 0.05) == "collapsed"
    assert verdict(0.4, 0.05, min_effective_ratio=0.4) == "ungrounded"
    assert verdict(0.4, 0.05, templated_reference=0.95) == "ungrounded"
    assert verdict(0.9, 0.15) == "collapsed"
    assert verdict(0.9, 0.15, top_share_floor=0.2) == "ungrounded"
    assert verdict(0.9, 0.15, top_share_ratio=6.0) == "ungrounded"
    assert verdict(0.9, 0.05, ungrounded_ratio=1e-6) == "undetermined"
    near = flat + 0.004
    strict = GateThresholds(alpha=1e-9)
    assert gate([0.9] * 3, [0.05] * 3, near, HUMAN).verdict == "grounded"
    assert gate([0.9] * 3, [0.05] * 3, near, HUMAN, strict).verdict == "undetermined"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1, 1.1])
def test_figures_that_are_no_shares_are_refused(bad: float) -> None:
    flat = np.zeros((1, 10))
    with pytest.raises(StudyError, match="effective captions"):
        gate(bad, 0.1, flat, HUMAN)
    with pytest.raises(StudyError, match="'x': top cluster share"):
        gate_all({"x": Candidate([0.5], [bad], flat)}, HUMAN)
    for name, word in (("effective", "effective"), ("top_share", "top share")):
        with pytest.raises(StudyError, match=f"human captions' {word}"):
            replace(HUMAN, **{name: bad})
    with pytest.raises(StudyError, match="0 to 1"):
        gate_by_diversity_alone(bad)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: gate(0.5, 0.1, [0.0, np.nan], HUMAN), "1 scores are not finite"),
        (lambda: gate(0.5, 0.1, np.zeros((3, 10)), HUMAN), "expected 3 numbers"),
        (lambda: replace(HUMAN, mean_margin=float("nan")), "mean D is nan"),
        *((lambda a=a: GateThresholds(alpha=a), r"gate\.alpha") for a in (0, 0.5, float("nan"))),
    ],
)
def test_what_would_ground_everything_is_refused(refused, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        refused()


def runs_of(
    means: Sequence[float], seed: int, diversity: Sequence[float] | None = None
) -> Candidate:
    """Runs with these mean margins over 60 clips, and their effective captions."""
    clips = np.random.default_rng(seed).normal(0, 0.1, (len(means), 60))
    effective = [0.9] * len(means) if diversity is None else diversity
    share = [0.02 if value > 0.5 else 0.9 for value in effective]
    return Candidate(effective, share, np.array(means)[:, None] + clips)


@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_one_collapsed_run_makes_its_projector_unstable_and_mutes_no_other(n_seeds):
    human = References(0.95, 0.02, 0.35)
    sound = {f"sound{i}": runs_of([0.3] * n_seeds, i) for i in range(3)}
    broken = runs_of([0.0] + [0.3] * (n_seeds - 1), 9, [0.05] + [0.9] * (n_seeds - 1))
    told = gate_all({**sound, "broken": broken}, human)
    assert told["broken"].verdict == "unstable" and told["broken"].failed_runs == (0,)
    assert [run.verdict for run in told["broken"].runs][:2] == ["collapsed", "grounded"]
    alone = gate_all(sound, human)
    assert all(told[name].margin == alone[name].margin for name in sound)
    assert all(told[name].verdict == "grounded" for name in sound)


def test_a_captioner_whose_runs_all_fail_is_no_mixture():
    told = gate_all({"none": runs_of([0.0, 0.0, 0.0], 1)}, References(0.95, 0.02, 0.35))
    assert told["none"].verdict != "unstable"
