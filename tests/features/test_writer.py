from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from siglip_study.base.errors import StudyError
from siglip_study.features import store
from siglip_study.features.store import FeatureStore, FeatureWriter, clip_name, shard_header

pytestmark = pytest.mark.usefixtures("no_thread_is_left")
IDS = ["가", "b", "c", "d", "e"]


def features(*clips: str) -> Tensor:
    rows = [torch.full((2, 3, 4), IDS.index(clip) + 0.5) for clip in clips]
    return torch.stack(rows).to(torch.bfloat16)


def opened(folder: Path, shard_clips: int = 2) -> FeatureWriter:
    return FeatureWriter(folder / "out", folder / "work", IDS, shard_clips, {"model": "m"})


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (8, 4, 16)])
def test_a_shard_is_what_safetensors_itself_writes(tmp_path, shape):
    rows = torch.randn(11, *shape, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    names = [clip_name(i) for i in range(95, 106)]
    save_file(dict(zip(names, rows, strict=True)), tmp_path / "theirs")
    ours = shard_header(names, shape) + rows.flatten().view(torch.uint8).numpy().tobytes()
    assert ours == (tmp_path / "theirs").read_bytes()


def test_batches_of_any_size_fill_the_shards(tmp_path):
    with opened(tmp_path, 3) as file:
        assert file.todo == [["가", "b", "c"], ["d", "e"]]
        for clips in (["가"], ["b", "c"], ["d"], ["e"]):
            # Wider numbers and views are taken as well.
            file.put(features(*clips).float().flip(0).flip(0))
    store = FeatureStore(tmp_path / "out")
    assert store.ids == tuple(IDS)
    assert all(torch.equal(store[clip], features(clip)[0]) for clip in IDS)


def test_what_a_killed_life_on_another_node_left_is_not_published(tmp_path):
    (tmp_path / "work").mkdir()
    with pytest.raises(RuntimeError), opened(tmp_path) as file:
        file.put(features("가", "b"))
        raise RuntimeError("killed")
    left = (".shard-00001.node7.42.partial.json", ".index.node7.42.partial.json")
    for name in (*left, "shard-00002.partial"):
        (tmp_path / "work" / name).touch()
    with opened(tmp_path) as file:
        file.put(features("c", "d"))
        file.put(features("e"))
    shards = [f"shard-0000{number}.safetensors" for number in range(3)]
    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == [".index.json.sha256", "index.json", *shards]


def test_a_life_killed_before_the_last_rename_keeps_its_shards(tmp_path, monkeypatch):
    def killed(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "remove_dir", killed)  # the last but the rename
        with pytest.raises(KeyboardInterrupt), opened(tmp_path, 5) as file:
            file.put(features(*IDS))
    assert (tmp_path / "work/plan.json").is_file()


def test_an_error_keeps_whole_shards_and_drops_the_begun_one(tmp_path):
    with pytest.raises(RuntimeError, match="encoder"), opened(tmp_path) as file:
        file.put(features("가", "b"))
        file.put(features("c"))
        raise RuntimeError("encoder")
    assert sorted(p.name for p in (tmp_path / "work").iterdir()) == [
        "plan.json",
        "shard-00000.json",
        "shard-00000.safetensors",
    ]
    again = opened(tmp_path)
    assert again.todo == [["c", "d"], ["e"]]
    with again as file:
        file.put(features("c", "d"))
        file.put(features("e"))
    assert torch.equal(FeatureStore(tmp_path / "out")["b"], features("b")[0])


def test_a_full_disk_is_told_to_the_caller(tmp_path):
    writer = opened(tmp_path)
    (tmp_path / "work/shard-00000.partial").symlink_to("/dev/full")
    with pytest.raises(StudyError, match=r"shard-00000.*No space left on device"), writer as file:
        # More than the queue holds: the caller would wait for ever for a thread that is gone.
        for clips in (["가", "b"], ["c", "d"], ["e"]):
            file.put(features(*clips))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "finite", "message"),
    [
        (features("가", "b", "c"), None, r"\(3, 2, 3, 4\); expected \(2, frames"),
        (features("가", "b"), None, "not every clip was encoded"),
        (features("가", "b"), torch.tensor([True, False]), "clip 'b' are not finite"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, given, finite, message):
    with pytest.raises(StudyError, match=message), opened(tmp_path) as file:
        file.put(given, finite)


def test_a_finished_shard_binds_those_of_a_later_call(tmp_path):
    with pytest.raises(StudyError, match="not every clip"), opened(tmp_path) as file:
        file.put(features("가", "b"))
    message = r"\(2, 3, 5\); expected \(2, 3, 4\) as in other shards"
    with pytest.raises(StudyError, match=message), opened(tmp_path) as file:
        file.put(torch.zeros(2, 2, 3, 5))
