"""METEOR: by hand on Korean, against nltk, and the same through every path."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest
from nltk.translate.meteor_score import single_meteor_score

from siglip_study.metrics.meteor import (
    ALPHA,
    BETA,
    GAMMA,
    Aligned,
    meteor,
    meteor_all,
    meteor_gain,
    meteor_mismatched,
    other_clips,
    own_scores,
    pair_score,
)
from siglip_study.metrics.tokens import tokenize


class Nothing:
    """No stems and no synonyms."""

    def stem(self, word):
        return word

    def synsets(self, word):
        return []


def by_nltk(references, caption):
    weights = {"alpha": ALPHA, "beta": BETA, "gamma": GAMMA}
    off = {"preprocess": str, "stemmer": Nothing(), "wordnet": Nothing()}
    scores = [single_meteor_score(list(r), list(caption), **off, **weights) for r in references]
    return max(scores, default=0.0)


def score(references, caption):
    """One caption through evaluate, and the same number by the quick way."""
    (value,) = meteor([caption], [references]).tolist()
    assert own_scores([caption], [references]).tolist() == [value]
    return value


def random_lists(seed: int, n: int, vocabulary: int, longest: int = 15) -> list[list[str]]:
    rng = random.Random(seed)
    return [
        [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randint(0, longest))] for _ in range(n)
    ]


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        # 빨갛 공 왼쪽 굴러가 | 파랗 공 왼쪽 굴러가: 3 of 4 match in 1 chunk, so P = R = F = 3/4,
        # penalty .5 (1/3)^3 = 1/54.
        ("파란 공이 왼쪽으로 굴러간다.", 3 / 4 * 53 / 54),
        # 왼쪽 공 굴러가: 3 matches in 3 chunks, P = 1, R = 3/4, F = .75 / (.9 · 1 + .1 · .75)
        # = 10/13, penalty .5.
        ("왼쪽으로 공이 굴러간다.", 5 / 13),
        # Equal: 4 matches in 1 chunk.
        ("빨간 공이 왼쪽으로 굴러간다.", 1 - 0.5 / 64),
        # Particles alone do not match.
        ("자동차가 도로에서 멈춘다.", 0),
        ("", 0),
    ],
)
def test_korean_by_hand(caption, expected):
    wanted, given = tokenize(["빨간 공이 왼쪽으로 굴러간다.", caption], "ko").content
    assert score([wanted], given) == pytest.approx(expected)


def test_docstring_example_of_nltk():
    # nltk's own example gives .6944 with Porter stems and WordNet; exact matches give the same
    # here once upper case is folded, as nltk does by default.
    hypothesis = "it is a guide to action which ensures that the military always obeys the commands"
    reference = "it is a guide to action that ensures that the military will forever heed party"
    found = score([[*reference.split(), "commands"]], [*hypothesis.split(), "of", "the", "party"])
    assert round(found, 4) == 0.6944


@pytest.mark.parametrize("vocabulary", [2, 5, 40])
def test_the_quick_way_equals_nltk_to_the_last_bit(vocabulary):
    references = random_lists(vocabulary, 1200, vocabulary)
    captions = random_lists(vocabulary + 100, 1200, vocabulary)
    quick = [
        pair_score(Aligned.of(c), Aligned.of(r)) for r, c in zip(references, captions, strict=True)
    ]
    assert quick == [by_nltk([r], c) for r, c in zip(references, captions, strict=True)]


@pytest.mark.parametrize("metric", [meteor, meteor_all, own_scores])
def test_several_or_no_references_equal_nltk(metric):
    references = [random_lists(i, i % 4, 6) for i in range(30)]
    captions = random_lists(10, 30, 6)
    slow = [by_nltk(refs, caption) for refs, caption in zip(references, captions, strict=True)]
    assert metric(captions, references).tolist() == slow


def test_mismatched_is_the_mean_over_the_other_clips():
    references = [random_lists(6 + i, 1 + i % 2, 6) for i in range(9)]
    captions = random_lists(7, 9, 6)
    matrix = np.array([[by_nltk(refs, caption) for refs in references] for caption in captions])
    expected = (matrix.sum(axis=1) - np.diagonal(matrix)) / 8
    others = other_clips([f"c{i}" for i in range(9)])
    assert meteor_mismatched(captions, references, others) == pytest.approx(expected)
    assert meteor_mismatched(captions, references) == pytest.approx(expected)
    assert meteor_gain(captions, references) == pytest.approx(np.diagonal(matrix) - expected)


def test_mismatched_of_a_single_clip_is_undefined():
    assert np.isnan(meteor_mismatched([["a"]], [[["a"]]])).all()


def test_no_caption_at_all():
    assert meteor([], []).tolist() == meteor_mismatched([], []).tolist() == []


def test_evaluate_path_needs_no_home_and_leaves_nothing(tmp_path):
    program = (
        "from siglip_study.metrics.meteor import meteor\n"
        "print(meteor([['a', 'b', 'd']], [[['a', 'b', 'c']]])[0])\n"
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
