from collections.abc import Callable

import pytest
import torch
from support.features import write_features
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.features.store import FeatureStore
from tools.fault_campaign import DAMAGES, flip

IDS = ["b", "a", "../../etc/passwd", "장면 1", "__metadata__", "c\n", "d" * 300]
FACTS = {"model": "m", "grid": (2, 2)}


def feature(clip: str) -> Tensor:
    generator = torch.Generator().manual_seed(IDS.index(clip))
    return torch.randn(3, 4, 8, generator=generator).to(torch.bfloat16)


def encoder(seen: list[str], fail_at: str | None = None) -> Callable[[list[str]], Tensor]:
    def encode(clips: list[str]) -> Tensor:
        if fail_at in clips:
            raise KeyboardInterrupt
        seen.extend(clips)
        return torch.stack([feature(clip) for clip in clips])

    return encode


def test_what_is_written_is_read(tmp_path):
    seen: list[str] = []
    write_features(tmp_path / "out", tmp_path / "work", IDS, encoder(seen), 3, FACTS)
    assert seen == IDS and not (tmp_path / "work").exists()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".index.json.sha256",
        "index.json",
        *(f"shard-0000{i}.safetensors" for i in range(3)),
    ]
    store = FeatureStore(tmp_path / "out")
    assert store.ids == tuple(IDS) and len(store) == 7 and "a" in store and "x" not in store
    assert store.shape == (3, 4, 8) and store.facts == {"model": "m", "grid": [2, 2]}
    for clip in IDS:
        assert store[clip].dtype == torch.bfloat16 and torch.equal(store[clip], feature(clip))
    batch = store.batch(["장면 1", "b", "장면 1"])
    assert torch.equal(batch, torch.stack([feature(c) for c in ("장면 1", "b", "장면 1")]))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_named_with_its_remedy(tmp_path, damage):
    write_features(tmp_path / "out", tmp_path / "work", IDS, encoder([]), 3, FACTS)
    damage(tmp_path / "out" / "shard-00001.safetensors")
    store = FeatureStore(tmp_path / "out")
    assert torch.equal(store["b"], feature("b"))
    with pytest.raises(StudyError, match=r"(?s)shard-00001.*damaged.*delete .*out and ask"):
        store.batch(IDS)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["shard-00001.safetensors", "shard-00001.json", "plan.json"])
def test_damaged_unfinished_work_is_done_again(tmp_path, damage, name):
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "o", tmp_path / "w", IDS, encoder([], IDS[5]), 2, FACTS)
    damage(tmp_path / "w" / name)
    if damage is flip and name.endswith("safetensors"):  # seen where it is read
        write_features(tmp_path / "o", tmp_path / "w", IDS, encoder([]), 2, FACTS)
        with pytest.raises(StudyError, match=r"shard-00001.*damaged"):
            FeatureStore(tmp_path / "o").batch(IDS)
        return
    write_features(tmp_path / "o", tmp_path / "w", IDS, encoder([]), 2, FACTS)
    store = FeatureStore(tmp_path / "o")
    assert torch.equal(store.batch(IDS), torch.stack([feature(clip) for clip in IDS]))


def test_an_id_that_is_not_there_is_named(tmp_path):
    write_features(tmp_path / "out", tmp_path / "work", IDS, encoder([]), 3, FACTS)
    with pytest.raises(StudyError, match="no features of clip 'gone'"):
        FeatureStore(tmp_path / "out").batch(["a", "gone"])


@pytest.mark.parametrize("change", ["facts", "ids", "shard_clips", "sources"])
def test_shards_of_another_plan_are_discarded(tmp_path, change):
    plan = {"ids": IDS, "shard_clips": 2, "facts": FACTS, "sources": IDS}
    with pytest.raises(KeyboardInterrupt):
        write_features(tmp_path / "o", tmp_path / "w", encode=encoder([], IDS[5]), **plan)
    plan[change] = {
        "facts": {"model": "other"},
        "ids": IDS[::-1],
        "shard_clips": 3,
        "sources": ["x", *IDS[1:]],
    }[change]
    seen: list[str] = []
    write_features(tmp_path / "o", tmp_path / "w", encode=encoder(seen), **plan)
    assert seen == plan["ids"]


def test_old_features_give_way(tmp_path):
    for facts in ({"run": 1}, {"run": 2}):
        write_features(tmp_path / "out", tmp_path / "work", IDS, encoder([]), 4, facts)
    assert FeatureStore(tmp_path / "out").facts == {"run": 2}


def test_what_cannot_be_features_is_refused(tmp_path):
    def write(ids: list[str], encode: Callable[[list[str]], Tensor]) -> None:
        write_features(tmp_path / "out", tmp_path / "work", ids, encode, 1, {})

    with pytest.raises(StudyError, match="no clip to encode"):
        write([], encoder([]))
    with pytest.raises(StudyError, match="clip 'a' occurs twice"):
        write(["a", "b", "a"], encoder([]))
    with pytest.raises(StudyError, match="expected \\(1, frames"):
        write(["a"], lambda ids: torch.zeros(2, 1, 1, 1))
    with pytest.raises(StudyError, match="clip 'b' are not finite"):
        write(["a", "b"], lambda ids: torch.full((1, 1, 1, 1), 0.0 if ids == ["a"] else torch.nan))
    with pytest.raises(StudyError, match="expected \\(1, 1, 1\\) as in other shards"):
        write(["a", "b"], lambda ids: torch.zeros(1, 1, 1, 1 if ids == ["a"] else 2))
    assert not (tmp_path / "out").exists()


def test_unfinished_or_damaged_folders_are_refused(tmp_path):
    with pytest.raises(StudyError, match=r"index\.json"):
        FeatureStore(tmp_path)
    write_features(tmp_path / "out", tmp_path / "work", IDS, encoder([]), 4, {})
    (tmp_path / "out/shard-00001.safetensors").write_bytes(b"junk")
    store = FeatureStore(tmp_path / "out")
    assert store["b"].shape == (3, 4, 8)
    with pytest.raises(StudyError, match="shard-00001"):
        store["d" * 300]
