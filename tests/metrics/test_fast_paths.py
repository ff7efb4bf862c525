"""What was made fast still equals its definition, counted out in plain loops."""

import copy
import random
from collections import Counter

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.base.io import atomic_path
from siglip_study.metrics import diversity, meteor_references, morphemes
from siglip_study.metrics.bleu import self_bleu
from siglip_study.metrics.meteor import MeteorReferences, meteor_own, meteor_pairs, meteor_tokens
from siglip_study.metrics.ngrams import Held, Ngrams, ascending
from siglip_study.metrics.token_lists import ReferenceLists, TokenLists


def lists(seed, n, vocabulary=5, longest=12):
    rng = random.Random(seed)
    return [
        [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randint(0, longest))] for _ in range(n)
    ]


def test_token_lists_give_back_what_they_were_made_of():
    texts = lists(2, 30)
    made = TokenLists.of(texts)
    assert len(made) == 30 and list(made) == texts and made[-1] == texts[-1]
    assert TokenLists.of(made) is made
    assert made.strings == sorted({token for tokens in texts for token in tokens})
    kept = made.only(lambda token: token != "w3")
    assert list(kept) == [[token for token in tokens if token != "w3"] for tokens in texts]
    assert "w3" not in kept.strings
    assert made.numbers_in({"w0": 7}).tolist() == [7, -1, -1, -1, -1]
    sent = copy.deepcopy(made)  # by the protocol that carries it to other processes
    assert list(sent) == texts and sent.numbers.dtype == made.numbers.dtype
    assert list(TokenLists.of([])) == [] and list(TokenLists.of([[], []])) == [[], []]


def test_the_numbers_of_tokens_do_not_depend_on_what_was_read_before():
    texts = lists(4, 10)
    made = TokenLists.of(texts)
    known = ["z", *reversed(made.strings), "a"]
    places = [len(known) - 2 - number for number in made.numbers.tolist()]
    drawn = TokenLists.drawn_from(known, np.array(places), made.sizes)
    assert drawn.strings == made.strings
    assert drawn.numbers.tolist() == made.numbers.tolist()


def test_references_in_a_row_know_their_clip():
    made = ReferenceLists.of([[["a"], ["b", "a"]], [], [["c"]]])
    assert made.clip.tolist() == [0, 0, 2]
    assert made.first.tolist() == [0, 2, 2]
    assert list(made.flat) == [["a"], ["b", "a"], ["c"]]


@pytest.mark.parametrize("most", [1, 9, 2**16, 2**16 + 1, 2**33, 2**62])
def test_digit_by_digit_the_order_is_that_of_a_stable_sort(most):
    values = np.random.default_rng(most % 97).integers(0, most, 500)
    assert ascending(values).tolist() == np.argsort(values, kind="stable").tolist()
    assert ascending(values[:0]).tolist() == []


@pytest.mark.parametrize(("owners", "step"), [(70_000, 2**20), (40, 1), (40, 2**9)])
def test_codes_are_counted_by_owner(owners, step):
    # By sorting, by a table, and by the one and the other.
    rng = np.random.default_rng(5)
    owner = rng.integers(0, owners, 3000)
    code = rng.integers(0, 12, 3000) * step
    held = Held.of(owner, code)
    wanted = sorted(Counter(zip(owner.tolist(), code.tolist(), strict=True)).items())
    codes = held.codes[held.gram].tolist()
    found = zip(zip(held.owner.tolist(), codes, strict=True), held.count.tolist(), strict=True)
    assert list(found) == wanted
    assert held.codes[held.number].tolist() == code.tolist()


def test_ngrams_equal_counters():
    texts = lists(1, 40)
    counted = Ngrams.of(texts)
    for n, order in enumerate(counted.orders, start=1):
        expected = [Counter(zip(*(t[k:] for k in range(n)), strict=False)) for t in texts]
        assert order.total.tolist() == [c.total() for c in expected]
        found = np.bincount(order.owner, order.count, minlength=len(texts))
        assert found.tolist() == [c.total() for c in expected]
        assert np.bincount(order.owner, minlength=40).tolist() == [len(c) for c in expected]
        assert len(order.last) == len(set().union(*expected))


@pytest.mark.parametrize(("table", "absent"), [(10**8, -(2**14)), (10**8, -8), (0, 0)])
def test_meteor_of_several_or_no_references_equals_nltk(table, absent, monkeypatch):
    # In a small table, in one that longer references need, and without any.
    monkeypatch.setattr(meteor_references, "_TABLE", table)
    monkeypatch.setattr(meteor_references, "_ABSENT_SMALL", absent)
    references = [lists(i, i % 4) for i in range(12)]
    captions = lists(99, 12)
    everyone = [np.arange(12)] * 12
    index = MeteorReferences(references)
    assert (index.places is None) == (table == 0)
    for caption, row in zip(captions, meteor_pairs(index, captions, everyone), strict=True):
        assert row.tolist() == [meteor_tokens(refs, caption) for refs in references]
    assert meteor_own(index, captions).tolist() == [
        meteor_tokens(refs, caption) for refs, caption in zip(references, captions, strict=True)
    ]


def test_short_texts_are_like_nothing_but_themselves():
    texts = ["", "a", "ab", "abc", "a\0\0", "\0\0", "a\U0010ffff", "😀"]
    assert (diversity._near(texts, 0.8) == np.eye(len(texts), dtype=bool)).all()


def test_common_and_rare_grams_give_one_jaccard(monkeypatch):
    rng = random.Random(3)
    texts = ["".join(rng.choice("가나다") for _ in range(rng.randint(0, 14))) for _ in range(60)]
    texts = sorted(set(texts))

    def grams(text):
        return {text[i : i + 3] for i in range(len(text) - 2)} or {text}

    expected = [
        [len(grams(a) & grams(b)) >= 0.8 * len(grams(a) | grams(b)) - 1e-9 for b in texts]
        for a in texts
    ]
    for common, block in ((0, 3), (5, 4096), (10**6, 4096)):
        monkeypatch.setattr(diversity, "_COMMON", common)
        monkeypatch.setattr(diversity, "_BLOCK", block)
        assert diversity._near(texts, 0.8).tolist() == expected


def test_self_bleu_equals_nltk_where_no_count_is_zero():
    # nltk's BLEU-4 without smoothing is the same wherever every order has a hit.
    from nltk.translate.bleu_score import sentence_bleu

    texts = [t for t in lists(5, 60, vocabulary=2, longest=20) if len(t) > 10]
    scores = self_bleu(texts).per_clip
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
    assert diversity.vendi(few, np.zeros(5)) == pytest.approx(diversity.vendi(wide, np.zeros(35)))


def test_sentences_are_kept_between_runs(tmp_path, monkeypatch):
    texts = ["빨간 공이 굴러간다. 눈이 온다.", "", "눈이 온다. 밤이다."]
    first = morphemes.Morphemes(folder=tmp_path)
    found = list(first(texts))
    first.save()
    first.save()
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    again = morphemes.Morphemes(folder=tmp_path)
    monkeypatch.setattr(morphemes, "_kiwi", _nobody)
    assert list(again(texts)) == found
    # Nor are they analysed again for other processes.
    assert list(again.sentences(texts).values()) == [found[0][7:], found[2][5:], found[0][:7]]


def _nobody(workers):
    raise AssertionError("Kiwi is not asked, nor loaded, for sentences that are known")


def test_sentences_that_another_job_is_writing_or_was_killed_over_are_not_read(tmp_path):
    first = morphemes.Morphemes(folder=tmp_path)
    expected = list(first(["공이 구른다."]))
    first.save()
    (whole,) = tmp_path.rglob("*.parquet")
    with atomic_path(whole.with_name("another.parquet")) as partial:
        partial.write_bytes(whole.read_bytes()[:100])
        again = morphemes.Morphemes(folder=tmp_path)
        partial.write_bytes(whole.read_bytes())
    assert list(again(["공이 구른다."])) == expected


def test_a_damaged_file_of_sentences_is_named(tmp_path):
    first = morphemes.Morphemes(folder=tmp_path)
    first(["공이 구른다."])
    first.save()
    (whole,) = tmp_path.rglob("*.parquet")
    whole.write_bytes(whole.read_bytes()[:100])
    with pytest.raises(StudyError, match=f"{whole.name}: found a damaged file; expected Parquet"):
        morphemes.Morphemes(folder=tmp_path)


def test_a_sentence_has_the_same_morphemes_wherever_it_stands():
    alone = morphemes.Morphemes()
    assert alone(["나는 새를 본다. 배가 고프다."])[0] == [
        token for text in alone(["나는 새를 본다.", "배가 고프다."]) for token in text
    ]
