"""Files appear whole or not at all."""

import copy
import os
from pathlib import Path

import polars as pl
import pytest

from siglip_study.base.errors import Damaged, StudyError
from siglip_study.base.io import (
    atomic_dir,
    atomic_path,
    read_index,
    read_json,
    read_parquet,
    set_aside,
    sweep_partials,
    write_digest,
    write_json,
    write_parquet,
)
from tools.fault_campaign import DAMAGES, cut, delete


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_leaves_the_old_file_and_no_partial_one(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as partial:
        partial.write_text("half")
        assert target.read_text() == "old"
        raise KeyboardInterrupt
    assert target.read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_what_takes_its_name_is_on_the_disk_before(tmp_path, monkeypatch):
    done, sync, rename = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda f: done.append(os.fstat(f).st_ino) or sync(f))
    monkeypatch.setattr(Path, "replace", lambda a, b: done.append("renamed") or rename(a, b))
    with atomic_path(tmp_path / "a.txt") as partial:
        partial.write_text("one")
        file = partial.stat().st_ino
    assert done == [file, "renamed", tmp_path.stat().st_ino]
    done.clear()
    with atomic_dir(tmp_path / "folder") as partial:
        (partial / "b.txt").write_text("two")
        written = {partial.stat().st_ino, (partial / "b.txt").stat().st_ino}
    assert set(done[: done.index("renamed")]) == written and done[-1] == tmp_path.stat().st_ino


def test_a_success_replaces_the_file_and_makes_its_folder(tmp_path):
    target = tmp_path / "new" / "a.parquet"
    for text in ("one", "two"):
        with atomic_path(target) as partial:
            assert partial.suffix == ".parquet" and partial.name.startswith(".")
            partial.write_text(text)
        assert target.read_text() == text
    assert names(target.parent) == ["a.parquet"]


def test_a_failure_leaves_the_old_folder(tmp_path):
    target = tmp_path / "d"
    for text in ("one", "two"):
        with atomic_dir(target) as partial:
            (partial / text).write_text(text)
        assert names(target) == [text]
    with pytest.raises(ValueError), atomic_dir(target) as partial:
        (partial / "three").write_text("half")
        raise ValueError
    assert names(target) == ["two"] and names(tmp_path) == ["d"]


def test_json_carries_its_schema_first_and_keeps_korean(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"text": "빨간 공", "schema": "stale/0"}, "name/1")
    assert path.read_text(encoding="utf-8").splitlines()[1] == ' "schema": "name/1",'
    assert "빨간 공" in path.read_text(encoding="utf-8")
    assert read_json(path, "name/1")["text"] == "빨간 공"


def test_numbers_that_json_cannot_hold_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")}, "name/1")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b'{"schema": "name/2"}', b"{}"]
)
def test_reading_anything_else_is_a_sentence(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StudyError) as error:
        read_json(path, "name/1")
    message = str(error.value)
    assert str(path) in message and "name/1" in message
    assert message.endswith(".") and "\n" not in message


def test_json_that_is_none_is_damage_also_without_a_digest(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1}, "name/1")
    cut(path)
    with pytest.raises(Damaged) as told:
        read_json(path, "name/1")
    assert told.value.paths == (path,)


def test_what_killed_writers_of_any_host_left_is_swept_and_nothing_else(tmp_path):
    left = [".a.node7.42.partial.json", ".a.node7.42.removed.json"]
    kept = ["a.json", ".a.json.sha256", ".ab.node7.42.partial.json", ".a.node7.42.partial.parquet"]
    for name in left + kept:
        (tmp_path / name).touch()
    (tmp_path / ".b.node7.42.partial").mkdir()
    sweep_partials(tmp_path / "a.json")
    sweep_partials(tmp_path / "b")
    assert names(tmp_path) == sorted(kept)


def test_parquet_reads_back(tmp_path):
    import polars as pl

    table = pl.DataFrame({"id": ["가", "b"], "loss": [0.5, None]})
    write_parquet(tmp_path / "t.parquet", table)
    assert pl.read_parquet(tmp_path / "t.parquet").equals(table)
    assert names(tmp_path) == ["t.parquet"]


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage is not delete])
@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_what_is_not_what_was_written_is_told_and_set_aside(tmp_path, kind, damage):
    path = tmp_path / f"a.{kind}"
    if kind == "json":
        write_json(path, {"x": 1}, "name/1")
    else:
        write_parquet(path, pl.DataFrame({"x": [1, 2]}))

    def read():
        return read_json(path, "name/1") if kind == "json" else read_parquet(path)

    write_digest(path)
    read()
    damage(path)
    with pytest.raises(
        Damaged, match=f"a.{kind}: damaged; .* delete .*snakemake .*a.{kind}, "
    ) as told:
        read()
    # As it is made again when it comes from another process.
    assert copy.copy(told.value).paths == told.value.paths == (path,)
    assert set_aside(path) == tmp_path / f".a.{kind}.damaged" and set_aside(path)
    assert names(tmp_path) == [f".a.{kind}.damaged"]


def test_a_file_without_a_whole_digest_is_read_as_it_is_and_so_is_one_just_written(tmp_path):
    path = tmp_path / "a.json"
    for damage in (cut, delete, None):
        write_json(path, {"x": 1}, "name/1")
        write_digest(path)
        if damage is None:
            write_json(path, {"x": 2}, "name/1")
        else:
            damage(tmp_path / ".a.json.sha256")
            path.write_text(path.read_text().replace("1\n", "2\n"))
        assert read_json(path, "name/1")["x"] == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_index_that_is_damaged_or_gone_damages_its_folder(tmp_path, damage):
    index = tmp_path / "folder" / "index.json"
    write_json(index, {"x": 1}, "name/1")
    write_digest(index)
    damage(index)
    with pytest.raises(Damaged) as told:
        read_index(index, "name/1")
    assert told.value.paths == (index.parent,)
