"""BERTScore: a tiny random BERT, saved locally, against bert_score called directly."""

from pathlib import Path

import numpy as np
import pytest

from siglip_study.base.errors import StudyError
from siglip_study.metrics.bertscore import BertScore, bertscore_f1

CAPTIONS = ["빨간 공이 굴러간다", "파란 상자가 멈춰 있다", "고양이가 숲에서 잔다"]
REFERENCES = [["빨간 공이 멈춰 있다", "빨간 공"], ["파란 상자"], ["고양이가 잔다", "숲"]]
POSITIONS = 24


def save_tiny_bert(folder: Path, limit: int | None) -> Path:
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    texts = [*CAPTIONS, *(text for refs in REFERENCES for text in refs)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = special + sorted(set("".join(texts)) - {" "})
    vocabulary = {token: i for i, token in enumerate(letters)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        **{f"{name}_token": token for name, token in names.items()},
        **({} if limit is None else {"model_max_length": limit}),
    )
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=16,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=POSITIONS,
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert") / "tiny", POSITIONS)


@pytest.fixture(scope="module")
def scorer(tiny) -> BertScore:
    return BertScore(str(tiny), num_layers=2)


def test_equals_bert_score_called_directly(tiny, scorer):
    import bert_score

    _, _, expected = bert_score.score(
        CAPTIONS, REFERENCES, model_type=str(tiny), num_layers=2, use_fast_tokenizer=True
    )
    assert scorer.f1(CAPTIONS, REFERENCES) == pytest.approx(expected.numpy(), abs=1e-6)
    assert scorer.n_truncated(CAPTIONS) == 0


def test_equal_texts_score_1_and_empty_captions_0(scorer):
    f1 = scorer.f1(["빨간 공", "", " "], [["빨간 공"], ["숲"], ["숲"]])
    assert f1 == pytest.approx([1, 0, 0], abs=1e-5)
    assert f1.max() <= 1
    assert scorer.f1(["", ""], [["숲"], ["숲"]]).tolist() == [0, 0]


def test_a_model_without_length_limit_and_with_t5_in_its_path(tmp_path, scorer):
    # Both trip bert-score itself: OverflowError, and the T5 class for a BERT.
    folder = save_tiny_bert(tmp_path / "not-t5", None)
    other = BertScore(str(folder), num_layers=2)
    assert other.max_tokens == POSITIONS
    expected = scorer.f1(CAPTIONS, REFERENCES)
    assert other.f1(CAPTIONS, REFERENCES) == pytest.approx(expected)


def test_truncated_texts_are_counted(scorer):
    # 22 letters and two special tokens fit 24 positions; 23 do not.
    captions, references = ["공" * 22, "공" * 23, "공" * 90], ["숲", "숲", "숲" * 30]
    assert scorer.n_truncated(captions) == 2
    assert scorer.n_truncated([*references, "", " "]) == 1
    assert np.isfinite(scorer.f1(captions, [[text] for text in references])).all()


def test_baseline_is_the_mean_over_mismatched_references(scorer):
    train = [["빨간 공"], ["파란 상자"]]
    pair = scorer.f1(["빨간 공", "파란 상자"], [["파란 상자"], ["빨간 공"]])
    baseline = scorer.baseline(train)
    assert baseline == pytest.approx(pair.mean())
    assert scorer.baseline(REFERENCES, seed=3) == scorer.baseline(REFERENCES, seed=3)
    assert bertscore_f1(["빨간 공"], [["빨간 공"]], scorer, baseline) == pytest.approx([1])
    given = float(scorer.f1(["빨간 공"], [["숲"]])[0])
    assert bertscore_f1(["빨간 공"], [["숲"]], scorer, given) == pytest.approx([0])
    with pytest.raises(StudyError, match="needs two"):
        scorer.baseline([["하나"]])
    with pytest.raises(StudyError, match="nothing to scale"):
        bertscore_f1(["하나"], [["하나"]], scorer, 1.0)


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        ("/no/such/folder", 2, "no folder /no/such/folder"),
        ("{tiny}", 9, "9 layers"),
        ("{empty}", 2, "cannot be loaded"),
    ],
)
def test_mistakes_are_one_sentence(tiny, tmp_path, monkeypatch, model, layers, message):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    name = model.format(tiny=tiny, empty=tmp_path)
    with pytest.raises(StudyError, match=message) as error:
        BertScore(name, num_layers=layers)
    assert "\n" not in str(error.value)
