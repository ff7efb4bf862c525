"""The registry is whole, and importing metrics is cheap."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import siglip_study.metrics
from siglip_study.base.errors import StudyError
from siglip_study.metrics.registry import METRICS, metric_info, metric_metadata

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


def test_ranges_are_ordered_and_chance_lies_within():
    for info in METRICS.values():
        if info.min_value is not None and info.max_value is not None:
            assert info.min_value < info.max_value
        if info.chance is not None:
            assert info.min_value is None or info.min_value <= info.chance
            assert info.max_value is None or info.chance <= info.max_value


def test_metadata_is_json_and_names_the_tokenizer():
    metadata = metric_metadata(METRICS, "ko")
    json.dumps(metadata, allow_nan=False)
    assert "kiwipiepy" in metadata["meteor"]["tokenizer"]
    assert metadata["grounding_margin"]["tokenizer"] is None
    assert "kiwipiepy" not in str(metric_metadata(["meteor"], "en"))
    keys = {"version", "unit", "min", "max", "higher_is_better", "tokenizer"}
    assert set(metadata["meteor"]) == keys


def test_names_are_exact():
    with pytest.raises(StudyError, match="no metric is named 'METEOR'"):
        metric_info("METEOR")


def test_importing_metrics_loads_nothing_heavy():
    folder = Path(siglip_study.metrics.__file__).parent
    modules = sorted(path.stem for path in folder.glob("[!_]*.py"))
    assert "score" in modules
    program = "import sys\n" + "".join(f"import siglip_study.metrics.{m}\n" for m in modules)
    program += "print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    heavy = {"torch", "transformers", "evaluate", "datasets", "kiwipiepy", "bert_score", "nltk"}
    assert not (heavy | {"scipy", "altair"}) & set(loaded)
