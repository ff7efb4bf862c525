"""Whole cells: what the contract promises of values and rows, and captioners that try to cheat."""

import json
import random

import numpy as np
import polars as pl
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.metrics.base import METRICS
from siglip_study.scoring.score_captions import score_captions

TEXT = ["id", "group", "category", "caption"]
PER_CLIP = [name for name, metric in METRICS.items() if metric.per_clip]

N = 24
THINGS = ["빨간 공이", "파란 상자가", "노란 별이", "초록 나무가", "검은 고양이가", "흰 배가"]
ACTS = ["왼쪽으로 굴러간다", "오른쪽으로 움직인다", "위로 떠오른다", "그 자리에 멈춰 있다"]
PLACES = ["안개 낀 숲", "비 오는 도로", "눈 덮인 마을", "맑은 바닷가"]


def scene(rng: random.Random) -> str:
    return f"{rng.choice(PLACES)}에서 {rng.choice(THINGS)} {rng.choice(ACTS)}."


def study(n: int = N):
    rng = random.Random(0)
    references = [[scene(rng)] for _ in range(n)]
    categories: list[str | None] = [("a", "b")[i % 2] for i in range(n)]
    return {
        "references": references,
        "ids": [f"clip{i:02d}" for i in range(n)],
        "groups": [f"video{i // 2}" for i in range(n)],
        "categories": categories,
        "train_references": [[scene(rng)] for _ in range(50)],
        "language": "ko",
    }


def scorer_matrix(captions: list[str], references: list[list[str]]) -> np.ndarray:
    """A stand-in for SigLIP: cosine of character counts, with popular clips."""
    letters = sorted(set("".join(captions) + "".join(r[0] for r in references)))
    count = lambda text: np.array([text.count(c) for c in letters], dtype=float)  # noqa: E731
    clips = np.array([count(r[0]) for r in references])
    texts = np.array([count(c) for c in captions])
    norms = np.linalg.norm(texts, axis=1)[:, None] * np.linalg.norm(clips, axis=1)[None, :]
    matrix = np.divide(texts @ clips.T, norms, out=np.full(norms.shape, -1.0), where=norms > 0)
    return matrix


def score(captions, inputs, **more):
    matrix = scorer_matrix(captions, inputs["references"])
    return score_captions(captions, matrix=matrix, temperature=0.05, **inputs, **more)


@pytest.fixture(scope="module")
def inputs():
    return study()


@pytest.fixture(scope="module")
def human(inputs):
    return score([refs[0] for refs in inputs["references"]], inputs, are_references=True)


@pytest.fixture(scope="module")
def good(inputs, human):
    rng = random.Random(1)
    captions = [refs[0].replace("빨간", "붉은") for refs in inputs["references"]]
    captions[3] = scene(rng)
    siglip = {name: np.linspace(0.1, 0.9, N) for name in ("siglip_sum", "siglip_sigmoid")}
    return score(captions, inputs, siglip=siglip, reference_values=human.values)


def test_every_metric_has_a_value_or_a_reason(good):
    assert set(good.values) | set(good.not_computed) == set(METRICS)
    assert not set(good.values) & set(good.not_computed)
    assert set(good.metrics) == set(good.values)
    assert all(reason for reason in good.not_computed.values())
    assert "configured" in good.not_computed["bertscore_f1"]
    json.dumps([good.values, good.metrics, good.not_computed], allow_nan=False)
    for name, value in good.values.items():
        assert set(value) == {"value", "low", "high", "reference", "chance"}, name
        assert value["low"] is None or value["low"] <= value["value"] <= value["high"], name


def test_rows_follow_the_contract(good, inputs):
    clips = good.clips
    assert clips.columns == [*TEXT, "cluster", "retrieval_rank", *PER_CLIP]
    assert clips["id"].to_list() == inputs["ids"]
    assert clips.schema["cluster"] == pl.Int64
    assert all(clips.schema[name] == pl.Float64 for name in PER_CLIP)
    assert clips["bertscore_f1"].null_count() == N and clips["meteor"].null_count() == 0
    gain = clips["meteor"] - clips["meteor_mismatched"]
    assert clips["meteor_gain"].to_list() == pytest.approx(gain.to_list())


def test_a_value_is_the_mean_over_groups(good):
    means = good.clips.group_by("group").agg(pl.col("grounding_margin").mean())
    expected = means["grounding_margin"].mean()
    assert good.values["grounding_margin"]["value"] == pytest.approx(expected)


def test_the_references_value_stands_beside(good, human):
    assert good.values["auc"]["reference"] == human.values["auc"]["value"]
    assert good.values["auc"]["chance"] == 0.5 and good.values["distinct_ratio"]["chance"] is None
    assert good.values["meteor"]["reference"] is None
    assert "themselves" in human.not_computed["meteor"]
    assert "meteor_mismatched" in human.values
    assert human.clips["meteor"].null_count() == N


def test_the_best_generic_caption_gains_nothing(inputs, good):
    references = [refs[0] for refs in inputs["references"]]
    raw = scorer_matrix(references, inputs["references"]).mean(axis=1)
    generic = score([references[int(raw.argmax())]] * N, inputs)
    assert generic.values["siglip_cosine"]["value"] > 0.3
    margins = generic.clips["grounding_margin"].to_numpy()
    assert margins == pytest.approx(np.zeros(N), abs=1e-12)
    assert generic.values["retrieval_r1"]["value"] == pytest.approx(1 / N)
    assert generic.values["effective_captions"]["value"] == pytest.approx(1 / N)
    assert generic.values["meteor_gain"]["value"] == pytest.approx(0, abs=1e-12)
    assert generic.values["cider_gain"]["value"] == pytest.approx(0, abs=1e-9)


def test_what_is_absent_is_the_reason(inputs):
    one = score(["빨간 공이 굴러간다."], study(1))
    assert "no other clip" in one.not_computed["grounding_margin"]
    assert "no other clip" in one.not_computed["meteor_gain"]
    assert one.values["meteor"]["low"] is None
    assert set(one.values) | set(one.not_computed) == set(METRICS)
    unseen = score_captions([refs[0] for refs in inputs["references"]], **inputs)
    assert "scorer" in unseen.not_computed["grounding_margin"]
    assert unseen.clips["grounding_margin"].null_count() == N


def test_english_with_several_references_and_no_category():
    result = score_captions(
        ["A red ball rolls.", "A cat sleeps."],
        [["A red ball is rolling.", "The red ball rolls."], ["A cat."]],
        ["a", "b"],
        language="en",
        train_references=[["A dog."], ["A car drives."]],
        truncated=[False, True],
    )
    assert result.values["truncated_share"]["value"] == 0.5
    assert result.values["meteor_gain"]["value"] > 0
    assert "words" in result.metrics["meteor"]["tokenizer"]


def test_vendi_and_bertscore_take_part_when_given(inputs):
    class Model:
        def f1(self, captions, references):
            return np.full(len(captions), 0.8)

        def n_truncated(self, texts):
            return sum("빨간" in text for text in texts)

    captions = [refs[0] for refs in inputs["references"]]
    vectors = np.random.default_rng(0).normal(size=(N, 8))
    result = score(
        captions,
        inputs,
        bertscore=Model(),
        bertscore_baseline=0.6,
        caption_vectors=vectors,
        vector_centre=vectors.mean(axis=0),
    )
    assert result.values["bertscore_f1"]["value"] == pytest.approx(0.5)
    red = sum("빨간" in text for text in captions)
    assert result.notes == {"bertscore_truncated": red, "bertscore_truncated_references": red}
    assert 1 < result.values["vendi"]["value"] <= N


def test_mistakes_are_named(inputs):
    captions = ["가"] * N
    with pytest.raises(StudyError, match=f"captions has {N - 1} entries for {N} clip ids"):
        score_captions(captions[:-1], **inputs)
    with pytest.raises(StudyError, match="repeats the clip ids 'clip00'"):
        score_captions(captions, **{**inputs, "ids": ["clip00"] * N})
    with pytest.raises(StudyError, match="'siglip'"):
        score_captions(captions, siglip={"siglip": np.zeros(N)}, **inputs)
    with pytest.raises(StudyError, match="no caption to score"):
        score_captions([], [], [], language="ko", train_references=[])
