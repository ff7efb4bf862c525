"""Every metric keeps its own promises: on the demo's captions, and on captions that are empty."""

from pathlib import Path

import numpy as np
import pytest
import torch

from siglip_study.demo.captions import caption
from siglip_study.demo.dataset import plan_dataset
from siglip_study.demo.render import render_frame
from siglip_study.features.scorer import Scorer
from siglip_study.metrics import siglip
from siglip_study.metrics.base import METRICS, Metric
from siglip_study.metrics.grounding import fit_temperature
from siglip_study.scoring.score_captions import score_captions
from tools.demo_models.scenes import frame_times

SCORER = Path(__file__).parents[2] / "resources" / "demo" / "scorer"
CLIPS = 24
#: What has no value for the references, since it compares a caption with the reference it is.
AGAINST_ITSELF = {name for name in METRICS if METRICS[name].with_reference} | {"truncated_share"}
BASELINE = 0.4
#: All captions empty, where that is not the worst end of the range.
EMPTY = {
    "siglip_sum": -1, "bertscore_f1": -BASELINE / (1 - BASELINE),
    # One cluster or string is left, or the own clip comes last.
    "retrieval_mrr": 1 / CLIPS, "effective_captions": 1 / CLIPS, "distinct_ratio": 1 / CLIPS,
    # Nothing is said, so nothing is repeated or cut; the count of empty captions tells.
    "repetition_4": 0, "truncated_share": 0,
}  # fmt: skip


class LetterF1:
    """A stand-in for a BERTScore model: F1 of the letters of two texts, 0 for an empty one."""

    def f1(self, captions, references):
        def f1(a, b):
            shared = len(set(a) & set(b))
            return 2 * shared / (len(set(a)) + len(set(b))) if shared else 0.0

        found = [max(f1(c, r) for r in refs) for c, refs in zip(captions, references, strict=True)]
        return np.array(found)

    def n_truncated(self, texts):
        return 0


class Study:
    """Rendered report clips of the demo, and captions scored by its micro scorer."""

    def __init__(self):
        torch.set_num_threads(1)
        plan = plan_dataset({"train": 48, "report": CLIPS}, seed=3)
        clips = [clip for clip in plan if clip.split == "report"]
        self.scorer = Scorer(str(SCORER))
        self.scenes = [clip.scene for clip in clips]
        times = frame_times(CLIPS, 0, 0.0)
        frames = np.stack(
            [
                np.stack([render_frame(scene, float(t), 64) for t in row])
                for scene, row in zip(self.scenes, times, strict=True)
            ]
        )
        self.frames = list(self.scorer.encode(frames).numpy())
        self.images = siglip.clip_vectors(self.frames)
        self.references = [clip.caption for clip in clips]
        self.categories = [clip.scene.place for clip in clips]
        self.ids = [clip.id for clip in clips]
        self.train = [[clip.caption] for clip in plan if clip.split == "train"]
        self.human = None
        self.human = self.score(self.references, are_references=True)

    def score(self, captions, order=None, **more):
        """``captions`` belong to the clips in their first order; ``order`` is that of the call."""
        order = np.arange(CLIPS) if order is None else order
        images = self.images[order]
        captions = [captions[i] for i in order]
        pairs = self.scorer.caption_embeddings(captions)
        chunks, weights = ([part[k].numpy() for part in pairs] for k in (0, 1))
        made = siglip.Chunks(chunks, weights)
        vectors, empty = made.means, made.empty
        matrix = siglip.cosine_matrix(vectors, empty, images)
        scale, bias = self.scorer.logit_scale, self.scorer.logit_bias
        cut = self.scorer.published_embeddings(captions).numpy()
        if self.human is None:
            self.centre, self.temperature = vectors.mean(axis=0), fit_temperature(matrix)
        return score_captions(
            captions,
            [[self.references[i]] for i in order],
            [self.ids[i] for i in order],
            language="ko",
            train_references=self.train,
            groups=[f"video{i // 2}" for i in order],
            categories=[self.categories[i] for i in order],
            matrix=matrix,
            siglip={
                "siglip_sum": siglip.siglip_sum(made, images),
                "siglip_sigmoid": siglip.siglip_sigmoid(np.diag(matrix), scale, bias),
                "siglip_published": siglip.siglip_published(
                    cut, siglip.Frames([self.frames[i] for i in order]), scale, bias, empty
                ),
            },
            temperature=self.temperature,
            caption_vectors=vectors,
            vector_centre=self.centre,
            bertscore=LetterF1(),
            bertscore_baseline=BASELINE,
            reference_values=self.human and self.human.values,
            **more,
        )


@pytest.fixture(scope="module")
def study():
    return Study()


def spoken(study, kind):
    """Captions of other scenes of the demo, of the own one in other words, or one for all."""
    rng = np.random.default_rng(4)
    again = [caption(scene, rng, style="clips") for scene in study.scenes]
    return {"own": again, "others": again[1:] + again[:1], "one": again[:1] * CLIPS}[kind]


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is(name):
    info = METRICS[name]
    assert info.name == name and name.isidentifier() and name == name.lower()
    assert info.version.isdigit() and int(info.version) >= 1
    assert info.unit and info.unit == info.unit.strip()
    for bound in (info.min_value, info.max_value):
        assert bound is None or np.isfinite(bound)
    assert info.description.endswith(".") and " " in info.description


@pytest.mark.parametrize("kind", ["own", "others", "one"])
def test_values_on_the_demos_captions_lie_within_their_range(study, kind):
    found = study.score(spoken(study, kind), truncated=[False] * CLIPS)
    assert set(found.values) == set(METRICS) and not found.not_computed
    for name, told in found.values.items():
        info = METRICS[name]
        for part in ("value", "low", "high", "chance"):
            value = told[part]
            assert value is None or np.isfinite(value), (name, part)
        low = -np.inf if info.min_value is None else info.min_value
        high = np.inf if info.max_value is None else info.max_value
        assert low - 1e-9 <= told["value"] <= high + 1e-9, name
        assert told["chance"] is None or low <= told["chance"] <= high, name
        if name in found.clips.columns:
            column = found.clips[name].drop_nulls().to_numpy()
            assert ((column >= low - 1e-9) & (column <= high + 1e-9)).all(), name
        # The references' value stands beside, and lies within the range itself.
        if name in AGAINST_ITSELF:
            assert told["reference"] is None and name in study.human.not_computed, name
        else:
            assert told["reference"] == study.human.values[name]["value"], name
            assert low - 1e-9 <= told["reference"] <= high + 1e-9, name


def test_the_order_of_the_clips_changes_no_value_of_any_metric(study):
    captions = spoken(study, "own")
    captions[3], captions[7] = "", captions[8]
    cut = [i % 5 == 0 for i in range(CLIPS)]
    order = np.random.default_rng(5).permutation(CLIPS)
    before = study.score(captions, truncated=cut)
    after = study.score(captions, order, truncated=[cut[i] for i in order])
    assert set(before.values) == set(after.values) == set(METRICS)
    for name, told in before.values.items():
        for part, value in told.items():
            wanted = None if value is None else pytest.approx(value, abs=1e-6)
            assert after.values[name][part] == wanted, (name, part)
    rows = [found.clips.sort("id") for found in (before, after)]
    for name in set(rows[0].columns) - {"group", "category", "caption", "id"}:
        np.testing.assert_allclose(*(r[name].to_numpy() for r in rows), atol=1e-6, err_msg=name)


def test_right_captions_are_on_the_better_side(study):
    own, others = (study.score(spoken(study, kind)).values for kind in ("own", "others"))
    about_pairs = [
        name for name in METRICS if METRICS[name].higher_is_better and name in CLIP_AND_REFERENCE
    ]
    assert len(about_pairs) == len(CLIP_AND_REFERENCE)
    for name in about_pairs:
        assert own[name]["value"] > others[name]["value"], name


#: Metrics of a caption with its clip or its reference; the others are of captions by themselves.
CLIP_AND_REFERENCE = {
    "siglip_cosine", "siglip_sum", "siglip_sigmoid", "siglip_published", "grounding_margin",
    "grounding_margin_within", "auc", "auc_within", "bits", "retrieval_r1", "retrieval_r1_within",
    "retrieval_r5", "retrieval_mrr", "meteor", "meteor_all", "meteor_characters", "meteor_words",
    "meteor_gain", "cider", "cider_gain", "bertscore_f1",
}  # fmt: skip


def worst(info: Metric) -> float | None:
    """0 of a contrast with other clips; else the end of the range that is worse, or the least."""
    if info.chance == 0.0:
        return 0.0
    return info.max_value if info.higher_is_better is False else info.min_value


def test_empty_captions_score_the_minimum_in_every_metric_and_are_counted(study):
    found = study.score([""] * CLIPS, truncated=[False] * CLIPS)
    assert found.n_empty == CLIPS
    assert set(EMPTY) <= set(METRICS) == set(found.values)
    scale, bias = study.scorer.logit_scale, study.scorer.logit_bias
    least = {"siglip_sigmoid": siglip.siglip_sigmoid(np.array([-1.0]), scale, bias)[0]}
    for name in METRICS:
        value = {**EMPTY, **least}.get(name, worst(METRICS[name]))
        assert value is not None, f"{name} has no worst value; expected a row in EMPTY"
        assert found.values[name]["value"] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_one_empty_caption_among_others_is_the_least_of_all(study, text):
    captions = spoken(study, "own")
    captions[5] = text
    found = study.score(captions)
    assert found.n_empty == 1
    for name in CLIP_AND_REFERENCE & set(found.clips.columns):
        column = found.clips[name].to_numpy()
        contrast = METRICS[name].chance == 0.0 and name != "bertscore_f1"
        assert column[5] == (0 if contrast else column.min()), name
    assert found.clips["retrieval_rank"][5] == CLIPS
