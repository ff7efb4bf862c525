"""Every metric says what it is, is a function of the package, and importing them is cheap."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from siglip_study import metrics
from siglip_study.base.errors import StudyError
from siglip_study.metrics.base import INPUTS, METRICS, metric
from siglip_study.scoring.score_captions import metric_metadata

GUIDE = Path(__file__).parents[2] / "docs" / "add-a-metric.md"
#: Section 6 of the design.
DESIGNED = {
    "siglip_cosine": True, "siglip_sum": True, "siglip_sigmoid": True, "siglip_published": True,
    "grounding_margin": True, "auc": True, "bits": True, "grounding_margin_within": True,
    "retrieval_r1": True, "retrieval_r5": True, "retrieval_mrr": True,
    "meteor": True, "meteor_all": True, "meteor_characters": True, "meteor_words": True,
    "meteor_mismatched": None, "meteor_gain": True, "cider_gain": True, "bertscore_f1": True,
    "effective_captions": True, "distinct_ratio": True, "top_cluster_share": False,
    "self_bleu": False, "distinct_1": True, "distinct_2": True, "vendi": True, "novelty": None,
    "repetition_4": False, "truncated_share": False, "length_ratio": None,
}  # fmt: skip


def test_every_designed_metric_is_there_with_its_direction():
    assert {name: METRICS[name].higher_is_better for name in DESIGNED} == DESIGNED


def test_metadata_is_json_and_names_the_tokenizer():
    metadata = metric_metadata(METRICS, "ko")
    json.dumps(metadata, allow_nan=False)
    assert "kiwipiepy" in metadata["meteor"]["tokenizer"]
    assert metadata["grounding_margin"]["tokenizer"] is None
    assert "kiwipiepy" not in str(metric_metadata(["meteor"], "en"))
    keys = {"version", "unit", "min", "max", "higher_is_better", "tokenizer"}
    assert set(metadata["meteor"]) == keys


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_a_function_of_the_package(name):
    # Though a file may have the same name.
    assert getattr(metrics, name) is METRICS[name].function


def test_the_guide_names_every_input():
    rows = GUIDE.read_text(encoding="utf-8").splitlines()
    assert [row for row in rows if row.startswith("| `")] == [
        f"| `{name}` | {meaning} |" for name, meaning in INPUTS.items()
    ]


def unknown_input(caption):
    """Sentence."""


def known_input(captions):
    """Sentence."""


def no_sentence(captions):
    pass


def meteor(captions):
    """Sentence."""


@pytest.mark.parametrize(
    ("function", "tokens", "message"),
    [
        (unknown_input, None, "metric unknown_input asks for 'caption'; expected one of captions"),
        (known_input, "syllables", "tokens='syllables'"),
        (no_sentence, None, "metric no_sentence has no docstring"),
        (meteor, None, "metric meteor is in siglip_study"),
    ],
)
def test_a_metric_that_cannot_be_told_is_refused(function, tokens, message):
    before = dict(METRICS)
    with pytest.raises(StudyError, match=message):
        metric(bounds=(0, 1), higher_is_better=True, tokens=tokens)(function)
    assert before == METRICS


def test_importing_metrics_loads_nothing_heavy():
    loaded = subprocess.run(
        [sys.executable, "-c", "import siglip_study.metrics, sys; print(*sys.modules)"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"torch", "transformers", "evaluate", "datasets", "kiwipiepy", "bert_score", "nltk"}
    assert not (heavy | {"scipy", "vl_convert"}) & set(loaded)
