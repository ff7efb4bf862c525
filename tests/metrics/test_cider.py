"""CIDEr against pycocoevalcap, by hand, and the linear path against all pairs."""

import math
import random

import numpy as np
import pytest

from siglip_study.metrics.cider import DocumentFrequencies, cider, cider_others


def random_lists(seed, n, vocabulary, shortest, longest):
    rng = random.Random(seed)
    return [
        [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randint(shortest, longest))]
        for _ in range(n)
    ]


def pinned_case():
    captions = random_lists(11, 5, 6, 3, 8)
    first, second = random_lists(12, 5, 6, 3, 8), random_lists(13, 5, 6, 3, 8)
    return captions, [[a, b] for a, b in zip(first, second, strict=True)]


def test_pinned_values_of_pycocoevalcap():
    # pycocoevalcap 1.2, CiderScorer(n=4, sigma=1e9) on the same lists joined by spaces: so wide a
    # Gaussian is 1, which leaves exactly this definition (clipped counts, frequencies from the
    # references). On 200 random corpora the two differed by less than 1e-15.
    captions, references = pinned_case()
    result = cider(references, captions, DocumentFrequencies.of(references))
    assert result.per_clip == pytest.approx(
        [
            0.5423377823658374,
            0.9196657175021823,
            1.4934828306367633,
            1.0206207261596574,
            0.7992119649658868,
        ]
    )


def test_by_hand():
    # Train: "가 나", "가 다", so N = 2, df(가) = 2 (weight 0), df(나) = 1 (weight ln 2); pairs have
    # weight ln 2. Caption "가 나 라" with reference "가 나":
    # order 1: h = {나: L, 라: L}, r = {나: L}: L² / (L√2 · L) = 1/√2
    # order 2: h = {가나: L, 나라: L}, r = {가나: L}: 1/√2; orders 3 and 4: 0.
    frequencies = DocumentFrequencies.of([[["가", "나"]], [["가", "다"]]])
    assert frequencies.weight(("가",)) == 0
    assert frequencies.weight(("라",)) == pytest.approx(math.log(2))
    result = cider([[["가", "나"]]], [["가", "나", "라"]], frequencies)
    assert result.corpus == pytest.approx(10 * (2 / math.sqrt(2)) / 4)


def test_equal_captions_score_10_and_repeating_them_does_not():
    frequencies = DocumentFrequencies.of([[list("abcde")], [list("fghij")]])
    assert cider([[list("abcde")]], [list("abcde")], frequencies).corpus == pytest.approx(10)
    assert cider([[list("abcde")]], [list("abcde") * 3], frequencies).corpus < 7


def test_a_word_of_every_train_clip_weighs_nothing():
    frequencies = DocumentFrequencies.of([[["a", "b"]], [["a", "c"]]])
    assert cider([[["a"]]], [["a"]], frequencies).corpus == 0


def test_two_references_of_one_clip_count_once():
    frequencies = DocumentFrequencies.of([[["a"], ["a", "b"]], [["c"]]])
    assert frequencies.clips(["a"]) == 1 and frequencies.n_clips == 2


def test_others_equal_the_mean_over_all_other_clips():
    captions, references = random_lists(1, 12, 5, 0, 9), []
    for i, tokens in enumerate(random_lists(2, 12, 5, 0, 9)):
        references.append([tokens, *random_lists(100 + i, i % 3, 5, 1, 9)])
    frequencies = DocumentFrequencies.of(references[:7])
    slow = [
        np.mean([cider([references[j]], [captions[i]], frequencies).corpus for j in others])
        for i in range(12)
        for others in [[j for j in range(12) if j != i]]
    ]
    assert cider_others(references, captions, frequencies).per_clip == pytest.approx(slow)


def test_empty_captions_and_single_clips():
    frequencies = DocumentFrequencies.of([[["a"]], [["b"]]])
    assert cider([[["a"]], [[]]], [[], ["a"]], frequencies).per_clip.tolist() == [0, 0]
    assert cider_others([[["a"]], [["b"]]], [[], []], frequencies).per_clip.tolist() == [0, 0]
    assert np.isnan(cider_others([[["a"]]], [["a"]], frequencies).corpus)


def test_nothing_in_common_with_others_is_exactly_0():
    frequencies = DocumentFrequencies.of([[list("abc")], [list("def")], [list("ghi")]])
    references = [[list("abc")], [list("def")], [list("ghi")]]
    captions = [list("abc"), list("def"), list("ghi")]
    assert cider_others(references, captions, frequencies).per_clip.tolist() == [0, 0, 0]
