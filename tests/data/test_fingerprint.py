"""Changes of a dataset are told from names, sizes and times."""

import os

import pytest

from siglip_study.data.fingerprint import dataset_fingerprint, write_listing


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    (folder / "train" / "videos").mkdir(parents=True)
    for name in ("a.mp4", "나.mp4"):
        (folder / "train" / "videos" / name).write_bytes(b"12345")
    return folder


CHANGES = {
    "added": lambda root: (root / "train" / "c.mp4").write_bytes(b"1"),
    "removed": lambda root: (root / "train" / "videos" / "a.mp4").unlink(),
    "another size": lambda root: (root / "train" / "videos" / "a.mp4").write_bytes(b"123456"),
    "renamed": lambda root: (root / "train" / "videos" / "a.mp4").rename(root / "a.mp4"),
    # A listing knows sizes alone: files of a dataset that was made are not replaced.
    "another time": lambda root: os.utime(root / "train" / "videos" / "a.mp4", ns=(1, 1)),
}


@pytest.mark.parametrize(
    ("change", "listed"),
    [*((change, False) for change in CHANGES), *((change, True) for change in list(CHANGES)[:-1])],
)
def test_a_change_is_seen(root, change, listed):
    if listed:
        write_listing(root)
    before = dataset_fingerprint(root)
    assert dataset_fingerprint(root) == before
    CHANGES[change](root)
    assert dataset_fingerprint(root) != before


def test_a_replacement_behind_a_link_is_seen(root, tmp_path):
    elsewhere = tmp_path / "store.mp4"
    elsewhere.write_bytes(b"12345")
    (root / "train" / "linked.mp4").symlink_to(elsewhere)
    before = dataset_fingerprint(root)
    elsewhere.write_bytes(b"123456789")
    changed = dataset_fingerprint(root)
    assert changed != before
    elsewhere.unlink()  # a link to nothing is still a file of the dataset
    assert dataset_fingerprint(root) not in (before, changed)


def test_making_the_dataset_is_no_change(root, tmp_path):
    assert dataset_fingerprint(tmp_path / "not made yet") == "pristine"
    write_listing(root)
    assert dataset_fingerprint(root) == "pristine"
    (root / "train" / ".half.partial.mp4").write_bytes(b"1")  # being written: not there yet
    assert dataset_fingerprint(root) == "pristine"


def test_files_behind_a_linked_folder_count_where_links_are_followed(root, tmp_path):
    elsewhere = tmp_path / "another disk"
    elsewhere.mkdir()
    (root / "far").symlink_to(elsewhere)
    (root / "circle").symlink_to(root)
    alone, followed = dataset_fingerprint(root), dataset_fingerprint(root, follow_links=True)
    (elsewhere / "new.mp4").write_bytes(b"1")
    assert dataset_fingerprint(root) == alone
    assert dataset_fingerprint(root, follow_links=True) != followed
