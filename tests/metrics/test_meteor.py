"""METEOR: by hand on Korean, against nltk, and the same through every path."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from siglip_study.metrics.meteor import (
    meteor,
    meteor_matrix,
    meteor_mismatched,
    meteor_pairs,
    meteor_tokens,
)
from siglip_study.metrics.mismatch import other_clips
from siglip_study.metrics.tokens import content_morphemes


def random_lists(seed: int, n: int, vocabulary: int, longest: int = 15) -> list[list[str]]:
    rng = random.Random(seed)
    return [
        [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randint(0, longest))] for _ in range(n)
    ]


def korean(reference: str, caption: str) -> float:
    wanted, given = content_morphemes([reference, caption])
    return meteor_tokens([wanted], given)


def test_one_wrong_colour_by_hand():
    # 빨갛 공 왼쪽 굴러가 | 파랗 공 왼쪽 굴러가: 3 of 4 match in 1 chunk, so P = R = F = 3/4,
    # penalty .5 (1/3)^3 = 1/54, score 3/4 · 53/54.
    score = korean("빨간 공이 왼쪽으로 굴러간다.", "파란 공이 왼쪽으로 굴러간다.")
    assert score == pytest.approx(3 / 4 * 53 / 54)


def test_word_order_by_hand():
    # 빨갛 공 왼쪽 굴러가 | 왼쪽 공 굴러가: 3 matches in 3 chunks, P = 1, R = 3/4,
    # F = .75 / (.9 · 1 + .1 · .75) = 10/13, penalty .5, score 5/13.
    score = korean("빨간 공이 왼쪽으로 굴러간다.", "왼쪽으로 공이 굴러간다.")
    assert score == pytest.approx(5 / 13)


def test_equal_captions_fall_short_of_1_by_the_single_chunk():
    # 4 matches in 1 chunk: 1 - .5 / 4^3.
    assert korean("빨간 공이 왼쪽으로 굴러간다.", "빨간 공이 왼쪽으로 굴러간다.") == 1 - 0.5 / 64


def test_particles_alone_do_not_match():
    assert korean("고양이가 숲에서 잔다.", "자동차가 도로에서 멈춘다.") == 0


def test_docstring_example_of_nltk():
    # nltk's own example gives .6944 with Porter stems and WordNet; exact matches give the same
    # here once upper case is folded, as nltk does by default.
    hypothesis = "it is a guide to action which ensures that the military always obeys the commands"
    reference = "it is a guide to action that ensures that the military will forever heed party"
    score = meteor_tokens(
        [[*reference.split(), "commands"]], [*hypothesis.split(), "of", "the", "party"]
    )
    assert round(score, 4) == 0.6944


def test_empty_caption_empty_reference_and_no_reference_score_0():
    assert meteor_tokens([["a"]], []) == 0
    assert meteor_tokens([[]], ["a"]) == 0
    assert meteor_tokens([], ["a"]) == 0


def test_the_best_of_several_references_counts():
    assert meteor_tokens([["x"], ["a", "b"]], ["a", "b"]) == meteor_tokens([["a", "b"]], ["a", "b"])


def test_case_and_tags_are_not_folded():
    assert meteor_tokens([["공/NNG"]], ["공/nng"]) == 0


@pytest.mark.parametrize("vocabulary", [2, 5, 40])
def test_the_fast_path_equals_nltk_to_the_last_bit(vocabulary):
    references = random_lists(vocabulary, 1200, vocabulary)
    captions = random_lists(vocabulary + 100, 1200, vocabulary)
    fast = meteor_pairs([[r] for r in references], captions, [np.array([i]) for i in range(1200)])
    slow = [meteor_tokens([r], c) for r, c in zip(references, captions, strict=True)]
    assert np.concatenate(fast).tolist() == slow


def test_the_fast_path_takes_other_weights():
    references, captions = random_lists(1, 50, 5), random_lists(2, 50, 5)
    own = [np.array([i]) for i in range(50)]
    weights = {"alpha": 0.5, "beta": 1.5, "gamma": 0.8}
    fast = meteor_pairs([[r] for r in references], captions, own, **weights)
    slow = [meteor_tokens([r], c, **weights) for r, c in zip(references, captions, strict=True)]
    assert np.concatenate(fast).tolist() == slow


def test_matrix_equals_all_pairs_and_repeated_captions_change_nothing():
    references = [[a, b] for a, b in zip(random_lists(3, 8, 6), random_lists(4, 8, 6), strict=True)]
    captions = random_lists(5, 4, 6) * 2
    matrix = meteor_matrix(references, captions)
    slow = [[meteor_tokens(refs, caption) for refs in references] for caption in captions]
    assert matrix.tolist() == slow
    assert meteor_matrix([], []).shape == (0, 0)


def test_mismatched_is_the_mean_off_the_diagonal():
    references, captions = [[r] for r in random_lists(6, 9, 6)], random_lists(7, 9, 6)
    matrix = meteor_matrix(references, captions)
    result = meteor_mismatched(references, captions, other_clips([f"c{i}" for i in range(9)]))
    expected = (matrix.sum(axis=1) - np.diagonal(matrix)) / 8
    assert result.per_clip == pytest.approx(expected)
    assert result.corpus == pytest.approx(expected.mean())


def test_mismatched_of_a_single_clip_is_undefined():
    result = meteor_mismatched([[["a"]]], [["a"]], other_clips(["only"]))
    assert np.isnan(result.per_clip).all()


def test_evaluate_module_gives_the_same_for_several_references():
    references = [
        [a, b] for a, b in zip(random_lists(8, 30, 6), random_lists(9, 30, 6), strict=True)
    ]
    captions = random_lists(10, 30, 6)
    result = meteor(references, captions)
    slow = [
        meteor_tokens(refs, caption) for refs, caption in zip(references, captions, strict=True)
    ]
    assert result.per_clip.tolist() == slow
    assert result.corpus == pytest.approx(np.mean(slow))


def test_evaluate_module_takes_unequal_numbers_of_references():
    result = meteor([[["a"]], [["b"], ["a", "b"]]], [["a"], ["a", "b"]])
    assert result.per_clip.tolist() == [0.5, 1 - 0.5 / 8]


def test_no_caption_at_all():
    result = meteor([], [])
    assert result.corpus == 0 and len(result.per_clip) == 0


def test_evaluate_path_needs_no_home_and_leaves_nothing(tmp_path):
    program = (
        "from siglip_study.metrics.meteor import meteor\n"
        "print(meteor([[['a', 'b', 'c']]], [['a', 'b', 'd']]).corpus)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_"))}
    environment |= {
        "HOME": "/dev/null/nowhere",
        "TMPDIR": str(tmp_path),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # P = R = F = 2/3 in one chunk of 2: 2/3 (1 - .5 / 8).
    assert float(done.stdout) == pytest.approx(2 / 3 * 15 / 16)
    assert list(tmp_path.iterdir()) == []
