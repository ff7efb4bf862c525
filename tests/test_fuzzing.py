"""Whatever stands in an input or an artefact is read, or answered by one sentence.

Run longer with: ``FUZZ_EXAMPLES=5000 .venv/bin/pytest tests/test_fuzzing.py``
"""

import json
import math
import os
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.artefacts import KINDS, artefacts

from siglip_study.base.errors import StudyError
from siglip_study.config import load, parse, plain_config
from siglip_study.config.study import DataConfig
from siglip_study.data.layouts import scan_split
from siglip_study.data.summary import read_unused
from siglip_study.scoring.score_captions import score_captions

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
# The same inputs on every machine, unless more are asked for than CI tries.
fuzzed = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 40,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TEXTS = st.text(st.characters(codec=None), max_size=20)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.just(10**400), st.just("~x")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def is_sentence(error: StudyError) -> bool:
    return len(str(error).splitlines()) == 1 and len(str(error)) < 3000


# ---- Configs: a valid one in which some values are others.

WHOLE = plain_config(parse({"data": {"root": "x"}, "projectors": {"linear": {}}, "demo": {}}))


def keys_of(section, above=()):
    for key, value in section.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from keys_of(value, (*above, key))


def changed(section, path, value):
    key, *rest = path
    return {**section, key: changed(section[key], rest, value) if rest else value}


@fuzzed
@given(st.sampled_from(list(keys_of(WHOLE))), VALUES)
def test_any_value_under_any_key_of_a_config(path, value):
    try:
        parse(changed(WHOLE, path, value), "study.yaml")
    except StudyError as error:
        assert is_sentence(error) and path[0] in str(error)


@fuzzed
@given(st.one_of(st.binary(max_size=80), TEXTS.map(lambda t: t.encode("utf-8", "replace"))))
def test_any_bytes_as_a_config(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_bytes(content)
    with pytest.raises(StudyError) as error:
        load(path)
    assert is_sentence(error.value)


@fuzzed
@given(VALUES)
def test_any_mapping_as_a_config(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    path.write_text(yaml.safe_dump({"data": value, "projectors": value}), encoding="utf-8")
    with pytest.raises(StudyError) as error:
        load(path)
    assert is_sentence(error.value)


# ---- Labels and tables: what cannot be used is rejected, and nothing leads out of the dataset.


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    for kind in ("videos", "labels"):
        (root / "train" / kind).mkdir(parents=True)
    (root / "train" / "videos" / "a.mp4").touch()
    (root.parent / "outside.mp4").touch()
    return root


def check_scan(root, **keys):
    try:
        found = scan_split(DataConfig(**keys), root, "train")
    except StudyError as error:
        assert is_sentence(error)
        return
    for clip in found.clips:
        assert (root / clip.path).resolve().is_relative_to(root.resolve())
        assert clip.id and clip.group and all(clip.captions)
        assert 0 <= (clip.start_s or 0) < math.inf
        # A manifest can hold it.
        pl.DataFrame([asdict(clip)])
    assert all(r.kind and "\n" not in r.kind for r in found.rejected)


JSON_LABELS = st.fixed_dictionaries(
    {},
    optional={
        "annotation": VALUES | st.fixed_dictionaries({"description_kr": VALUES}),
        "meta": VALUES | st.fixed_dictionaries({"source": VALUES, "category": VALUES}),
        "start_s": SCALARS,
        "end_s": SCALARS,
    },
)


@fuzzed
@given(JSON_LABELS.map(lambda label: json.dumps(label).encode()) | st.binary(max_size=60))
def test_any_label(dataset, content):
    (dataset / "train" / "labels" / "a.json").write_bytes(content)
    check_scan(dataset)


PATHS = st.one_of(
    TEXTS,
    st.lists(st.sampled_from(["..", ".", "train", "videos", "a.mp4", "outside.mp4", ""])).map(
        "/".join
    ),
    st.just("/etc/hostname"),
)
ROWS = st.fixed_dictionaries(
    {"caption": VALUES | st.just("A ball.")},
    optional={"id": SCALARS, "path": PATHS | SCALARS, "group": VALUES, "end_s": SCALARS},
)


@fuzzed
@given(st.lists(ROWS, min_size=1, max_size=3))
def test_any_rows_of_a_table(dataset, rows):
    lines = "\n".join(json.dumps(row) for row in rows)
    (dataset / "train.jsonl").write_text(lines, encoding="utf-8")
    check_scan(dataset, layout="jsonl")


@fuzzed
@given(st.text("path,caption\n\"'\t a.mp4é", max_size=60).map(str.encode) | st.binary(max_size=60))
def test_any_csv(dataset, content):
    (dataset / "train.csv").write_bytes(b"path,caption\n" + content)
    check_scan(dataset, layout="csv")


@fuzzed
@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40))
def test_a_file_of_any_name_is_found_by_it(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("named")
    try:
        (root / f"{name}.mp4").touch()
    except OSError:
        assume(False)
    row = json.dumps({"path": f"{name}.mp4", "caption": "A ball."})
    (root / "train.jsonl").write_text(row, encoding="utf-8")
    found = scan_split(DataConfig(layout="jsonl"), root, "train")
    assert [(root / clip.path).name for clip in found.clips] == [f"{name}.mp4"] or found.rejected


# ---- Captions: every metric of texts has a value within its range, or says why it has none.


@settings(fuzzed, max_examples=max(1, EXAMPLES // 4))
@given(
    st.lists(st.text(max_size=30), min_size=3, max_size=3), st.sampled_from(["ko", "en", "other"])
)
def test_any_captions_are_scored(captions, language):
    references = [["빨간 공이 구른다."], ["A box stands still."], ["두 사람이 걷는다."]]
    scores = score_captions(
        captions, references, ["a", "b", "c"], language=language, train_references=references
    )
    for name, metric in scores.values.items():
        value = metric["value"] if isinstance(metric, dict) else metric.value
        assert value is None or np.isfinite(value), name


# ---- Artefacts: some bytes are others, or the file ends early. None has its digest beside
# it, as if copied from elsewhere: what reads it is met, not the digest.


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return artefacts(tmp_path_factory.mktemp("artefacts"))


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_artefact_is_read(made, kind):
    path, read = made[kind]
    read(path)


@pytest.mark.parametrize("kind", KINDS)
@fuzzed
@given(
    place=st.floats(0, 1),
    length=st.integers(0, 8),
    put=st.binary(max_size=8),
    cut=st.booleans(),
)
def test_any_damage_of_an_artefact(made, kind, place, length, put, cut):
    path, read = made[kind]
    whole = path.read_bytes()
    at = int(place * len(whole))
    path.write_bytes(whole[:at] + put + (b"" if cut else whole[at + length :]))
    try:
        read(path)
    except StudyError as error:
        assert is_sentence(error) and path.parent.name in str(error)
    finally:
        path.write_bytes(whole)


def test_a_json_of_a_number_past_all_limits_is_a_sentence(tmp_path):
    path = tmp_path / "unused.json"
    path.write_text("1" * 5000)
    with pytest.raises(StudyError, match="not JSON"):
        read_unused(path)
