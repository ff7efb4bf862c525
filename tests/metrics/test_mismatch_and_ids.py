"""Which clips are compared, and that ids join inputs."""

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.metrics.ids import check_same_ids
from siglip_study.metrics.meteor import other_clips


def named(ids, chosen):
    return {ids[i]: {ids[j] for j in others} for i, others in enumerate(chosen)}


def test_up_to_a_hundred_clips_all_others_are_taken():
    chosen = other_clips([f"c{i}" for i in range(100)])
    assert [len(others) for others in chosen] == [99] * 100
    assert all(i not in others for i, others in enumerate(chosen))
    assert other_clips(["only"])[0] == ()


def test_beyond_that_fifty_half_of_the_same_category():
    ids = [f"c{i:03d}" for i in range(160)]
    assert {len(others) for others in other_clips(ids, ["a"] * 160)} == {50}
    categories = [("a", "b", None)[i % 3] if i < 150 else "rare" for i in range(160)]
    for i, others in enumerate(other_clips(ids, categories)):
        assert len(set(others)) == 50 and i not in others
        same = sum(categories[j] == categories[i] for j in others)
        if categories[i] == "rare":
            assert same == 9
        elif categories[i] is not None:
            assert same == 25


def test_the_draw_depends_on_ids_and_seed_not_on_order():
    ids = [f"c{i:03d}" for i in range(130)]
    categories = ["a" if i % 2 else "b" for i in range(130)]
    order = np.random.default_rng(0).permutation(130)
    moved = [ids[i] for i in order]
    before = named(ids, other_clips(ids, categories))
    assert named(moved, other_clips(moved, [categories[i] for i in order])) == before
    assert named(ids, other_clips(ids, categories, seed=1)) != before


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (["a", "x"], ["a", "b"], "only captions.json has 'x'; only manifest has 'b'"),
        ([f"c{i}" for i in range(20)], [], "and 15 more"),
        (["a", "b", "a"], ["a", "b"], "captions.json repeats the clip ids 'a'"),
        (["a"], ["a", "a"], "manifest repeats"),
    ],
)
def test_ids_that_differ_or_repeat_are_named(a, b, message):
    check_same_ids(["a", "b"], ["b", "a"], "captions.json", "manifest")
    with pytest.raises(StudyError, match=message):
        check_same_ids(a, b, "captions.json", "manifest")
