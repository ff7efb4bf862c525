"""Near-duplicate clusters and the measures of diversity, worked by hand."""

import itertools
import math
import random
import unicodedata

import numpy as np
import pytest

from siglip_study.metrics.diversity import (
    bleu_with_others,
    clusters,
    distinct_1,
    distinct_2,
    distinct_ratio,
    effective_captions,
    length_ratio,
    novelty,
    repetition_4,
    self_bleu,
    top_cluster_share,
    vendi,
    vendi_of_kernel,
)

SYLLABLES = "가나다라마바사아자차카타파하거너더러"
#: Prefixes of 12 to 18 syllables have 10 to 16 grams; Jaccard of two is smaller over larger.
CHAIN = [SYLLABLES[:length] for length in range(12, 19)]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        # Neighbours (>= .8) of 0..6: 3, 4, 6, 6, 5, 5, 4, as 10/12, 11/13, 12/15 = .8 exactly,
        # 13/16 pass and 10/13, 11/14, 12/16 do not. 2 and 3 tie and the id decides for 2, which
        # takes 0 to 5; 6 is alone, although 5 and 6 are neighbours.
        ("0123456", [0, 0, 0, 0, 0, 0, 1]),
        # With ids turned round 3 leads, and takes 1 to 6.
        ("6543210", [1, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_a_chain_of_small_steps_is_not_one_cluster(ids, expected):
    assert clusters(CHAIN, ids).tolist() == expected


def test_effective_captions_by_hand():
    # Shares 6/7 and 1/7: exp(-(6/7 ln 6/7 + 1/7 ln 1/7)) / 7.
    entropy = -(6 / 7 * math.log(6 / 7) + 1 / 7 * math.log(1 / 7))
    cluster = clusters(CHAIN, [f"id{i}" for i in range(7)])
    assert effective_captions(cluster) == pytest.approx(math.exp(entropy) / 7)
    assert top_cluster_share(cluster) == pytest.approx(6 / 7)


def test_korean_captions_by_hand():
    captions = [
        "빨간 공이 왼쪽으로 천천히 굴러간다.",
        "빨간 공이 왼쪽으로 천천히 굴러간다!",
        "안개 낀 숲에서 고양이가 잠을 잔다.",
        "안개 낀 숲에서 고양이가 잠을 잔다.",
    ]
    # 20 characters are 18 grams; one other last character leaves 17 of 19 shared: .895.
    cluster = clusters(captions)
    assert cluster[0] == cluster[1] != cluster[2] == cluster[3]
    assert effective_captions(cluster) == pytest.approx(0.5)
    assert distinct_ratio(captions) == 0.75


def test_permuting_captions_with_their_ids_changes_nothing():
    rng = random.Random(0)
    parts = ["빨간 공이 ", "파란 상자가 ", "왼쪽으로 ", "오른쪽으로 ", "굴러간다. ", "멈춘다. "]
    captions = ["".join(rng.choice(parts) for _ in range(6)) for _ in range(80)]
    ids = [f"clip{i}" for i in range(80)]
    before = dict(zip(ids, clusters(captions, ids).tolist(), strict=True))
    order = rng.sample(range(80), 80)
    after = clusters([captions[i] for i in order], [ids[i] for i in order])
    assert [before[ids[i]] for i in order] == after.tolist()


def test_short_and_empty_captions():
    # Below three characters only equality counts; empty captions are one cluster.
    texts = ["", "a", "ab", "abc", "a\0\0", "\0\0", "a\U0010ffff", "😀"]
    assert sorted(clusters(texts).tolist()) == list(range(8))
    assert clusters(["가", "가", "가나", "", " ", "가나다"]).tolist() == [0, 0, 2, 1, 1, 3]
    assert effective_captions(clusters([""] * 5)) == pytest.approx(1 / 5)
    assert clusters([]).tolist() == []
    assert effective_captions(clusters([])) == 0 and top_cluster_share(clusters([])) == 0
    assert distinct_ratio([]) == 0
    # Rounding lifts none over 1.
    assert all(effective_captions(np.arange(n)) <= 1.0 for n in range(1, 200))


def test_nfd_is_no_diversity():
    text = "빨간 공이 굴러간다"
    captions = [text, unicodedata.normalize("NFD", text), f" {text}\n"]
    assert len(set(clusters(captions).tolist())) == 1
    assert distinct_ratio(captions) == pytest.approx(1 / 3)


def test_distinct_n_by_hand():
    # Tokens a b a | a b: 5 tokens, 2 distinct; pairs ab ba | ab: 3 pairs, 2 distinct.
    tokens = [["a", "b", "a"], ["a", "b"]]
    assert distinct_1(tokens) == pytest.approx(2 / 5)
    assert distinct_2(tokens) == pytest.approx(2 / 3)
    assert distinct_2([["a"], []]) == 0


def test_repetition_by_hand():
    # a b a b a b a: 4-grams abab baba abab baba, 2 distinct of 4.
    assert repetition_4([list("abababa"), list("abc"), []]).tolist() == [0.5, 0, 0]


def test_novelty_reads_text_not_storage():
    train = [["빨간  공이 굴러간다"]]
    captions = [unicodedata.normalize("NFD", "빨간 공이 굴러간다"), "파란 공", ""]
    assert novelty(captions, train).tolist() == [0, 1, 0]


def test_length_ratio_by_hand():
    # References have (4 + 2) / 2 = 3 and 1 tokens, captions 6 and 0.
    assert length_ratio([list("abcdef"), []], [[list("abcd"), list("ab")], [["a"]]]) == 6 / 4
    assert length_ratio([["a"]], [[[]]]) == 0


def test_vendi_of_identity_and_constant_kernels():
    assert vendi_of_kernel(np.eye(7)) == pytest.approx(7)
    assert vendi_of_kernel(np.ones((7, 7))) == pytest.approx(1)
    # Two groups of equals, 3 and 1 of 4: exp of the entropy of (3/4, 1/4).
    kernel = np.zeros((4, 4))
    kernel[:3, :3] = 1
    kernel[3, 3] = 1
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert vendi_of_kernel(kernel) == pytest.approx(math.exp(entropy))


def test_vendi_is_centred_but_sees_collapse():
    rng = np.random.default_rng(0)
    common = rng.normal(size=64) * 3
    diverse = common + rng.normal(size=(60, 64))
    collapsed = diverse[:1] + rng.normal(size=(60, 64)) * 0.01
    centre = diverse.mean(axis=0)
    assert vendi(diverse, np.zeros(64)) < 10 < 25 < vendi(diverse, centre)
    assert vendi(collapsed, centre) == pytest.approx(1, abs=0.1)
    assert vendi(np.repeat(diverse[:1], 9, axis=0), centre) == pytest.approx(1)


def random_lists(seed, n, vocabulary, shortest, longest):
    rng = random.Random(seed)
    return [
        [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randint(shortest, longest))]
        for _ in range(n)
    ]


def test_self_bleu_pinned_values_of_sacrebleu():
    # sacrebleu 2.6.0, sentence_bleu(caption, the others, tokenize="none", smooth_method="exp",
    # use_effective_order=True) / 100. On 200 random sets the two differed by less than 1e-15.
    assert bleu_with_others(random_lists(7, 6, 6, 2, 9)) == pytest.approx(
        [
            0.33437015248821106,
            0.45180100180492244,
            0.47287080450158797,
            0.4272870063962342,
            0.45499414040480374,
            0.20374971871270475,
        ]
    )


def test_self_bleu_extremes():
    assert self_bleu([list("abcdef")] * 3) == pytest.approx(1)
    assert self_bleu([list("abcd"), list("efgh")]) == 0
    assert self_bleu([list("abcd")]) == 0
    assert bleu_with_others([[], list("abcd"), list("abcd")]) == pytest.approx([0, 1, 1])
    assert self_bleu([[], []]) == 1


def test_neighbours_equal_jaccard_of_sets():
    rng = random.Random(3)
    texts = ["".join(rng.choice("가나다") for _ in range(rng.randint(0, 14))) for _ in range(60)]
    grams = {text: {text[i : i + 3] for i in range(len(text) - 2)} or {text} for text in texts}
    for a, b in itertools.combinations(grams, 2):
        near = len(grams[a] & grams[b]) >= 0.8 * len(grams[a] | grams[b]) - 1e-9
        # Of two captions one leads, and takes the other if they are neighbours.
        assert len(set(clusters([a, b]).tolist())) == (1 if near else 2), (a, b)


def test_self_bleu_equals_nltk_where_no_count_is_zero():
    # nltk's BLEU-4 without smoothing is the same wherever every order has a hit.
    from nltk.translate.bleu_score import sentence_bleu

    texts = random_lists(5, 30, 2, 11, 20)
    scores = bleu_with_others(texts)
    compared = 0
    for i, caption in enumerate(texts):
        others = texts[:i] + texts[i + 1 :]
        fours = {tuple(o[k : k + 4]) for o in others for k in range(len(o) - 3)}
        if any(tuple(caption[k : k + 4]) in fours for k in range(len(caption) - 3)):
            assert scores[i] == pytest.approx(sentence_bleu(others, caption))
            compared += 1
    assert compared > 10


def test_vendi_by_the_small_matrix_equals_the_large_one():
    generator = np.random.default_rng(0)
    few = generator.normal(size=(20, 5))
    few[3] = few[4] = 0
    wide = np.hstack([few, np.zeros((20, 30))])
    assert vendi(few, np.zeros(5)) == pytest.approx(vendi(wide, np.zeros(35)))
