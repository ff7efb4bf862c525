"""From captions to the gate: who must be gated, and who never."""

import numpy as np
import pytest

from siglip_study.demo.captions import caption
from siglip_study.demo.world import sample_scene
from siglip_study.ranking.gate import Candidate, GateThresholds, References, gate_all
from siglip_study.scoring.score_captions import score_captions

N = 24
IDS = [f"clip-{i:02d}" for i in range(N)]


@pytest.fixture(scope="module")
def references():
    generator = np.random.default_rng(4)
    return [caption(sample_scene(generator, "clips"), generator) for _ in range(N)]


def scored(captions, matrix, references):
    return score_captions(
        captions,
        [[text] for text in references],
        IDS,
        language="ko",
        train_references=[[text] for text in references[:5]],
        matrix=matrix,
    )


def verdict(found, human):
    def figures(scores):
        values = scores.values
        return values["effective_captions"]["value"], values["top_cluster_share"]["value"]

    margins = found.clips["grounding_margin"].to_numpy()[None]
    mean = human.values["grounding_margin"]["value"]
    effective, top = figures(found)
    return gate_all(
        {"p": Candidate([effective], [top], margins)},
        References(*figures(human), mean),
        GateThresholds(),
    )["p"]


def seeing(strength=0.3, seed=0):
    """A matrix whose captions fit their own clips better, on top of hubs."""
    generator = np.random.default_rng(seed)
    hubs = generator.normal(size=(2, N)) * 0.1
    noise = generator.normal(size=(N, N)) * 0.05
    return hubs[0][:, None] + hubs[1][None] + noise + strength * np.eye(N)


@pytest.fixture(scope="module")
def human(references):
    return scored(references, seeing(), references)


def test_identical_captions_have_no_margin_and_are_gated(references, human):
    same = np.tile(seeing()[:1], (N, 1))
    found = scored([references[0]] * N, same, references)
    assert found.clips["grounding_margin"].to_numpy() == pytest.approx(0, abs=1e-12)
    assert found.values["effective_captions"]["value"] == pytest.approx(1 / N)
    assert verdict(found, human).verdict == "collapsed"


def test_references_are_never_gated(human):
    told = verdict(human, human)
    assert told.verdict == "grounded" and told.may_be_ranked
    assert not told.low_diversity and "templated" not in told.stamps


def test_right_facts_in_a_fixed_boilerplate_are_templated_not_collapsed(references, human):
    frame = "이 영상은 고정된 장소에서 촬영되었으며 다음과 같은 내용을 차분하고 자세하게 담고 있다."
    captions = [f"{frame} {frame} {frame} 숫자 {i:02d}." for i in range(N)]
    told = verdict(scored(captions, seeing(0.2, 1), references), human)
    assert told.verdict == "grounded" and told.may_be_ranked and "templated" in told.stamps


def test_permuting_clips_permutes_every_row(references, human):
    order = np.random.default_rng(2).permutation(N)
    moved = score_captions(
        [references[i] for i in order],
        [[references[i]] for i in order],
        [IDS[i] for i in order],
        language="ko",
        train_references=[[text] for text in references[:5]],
        matrix=seeing()[np.ix_(order, order)],
    )
    for name, told in human.values.items():
        assert moved.values[name]["value"] == pytest.approx(told["value"], abs=1e-12), name
