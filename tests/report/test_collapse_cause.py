"""The sentence that says why: planted histories, thresholds from both sides, and the section."""

import re
from dataclasses import replace

import polars as pl
import pytest
from support.page import part

from siglip_study.report.charts.curves import DIAGNOSED, history_name, history_points
from siglip_study.report.collapse_cause import CAUSES, chance_overlap, run_name, why
from siglip_study.report.results import LOST, History, lost_in
from siglip_study.report.wording.labels import label


def english(*given) -> str:
    return why(*given).en


def epoch(stage, number, share, *, start=0.4, before=0.5, **more):
    return {
        "stage": stage,
        "epoch": number,
        "step": 10 * number,
        "train_loss": 2.0 - 0.2 * number,
        "val_loss": 2.0 - 0.1 * number,
        "diag_n": 32,
        "diag_start_video_share_after": start,
        "diag_start_cosine_after": 0.62,
        "diag_start_rank_clips": 41.0,
        "diag_rank_clips": 1.3 if share < 0.04 else 30.0,
        "diag_rank_tokens": 50.0,
        "diag_cosine_before": 0.6 if before > 0.1 else 0.999,
        "diag_cosine_after": 0.99 if share < 0.04 else 0.6,
        "diag_video_share_before": before,
        "diag_video_share_after": share,
        "diag_neighbour_overlap": 0.5,
        "diag_attention_entropy": None,
        "grad_share_projector": 1.0 if stage == 1 else 0.5,
        "grad_share_lora": 0.0 if stage == 1 else 0.5,
        **more,
    }


def steps(stage, norms):
    return tuple(
        {"stage": stage, "step": i, "grad_norm": norm} for i, norm in enumerate(norms, start=1)
    )


def study(*epochs, norms=None, **more):
    given = {
        "cell": "mlp_00000000",
        "projector": "mlp",
        "role": "tuning",
        "seed": 0,
        "epochs": epochs,
        "steps": norms or steps(1, [0.5] * 20) + steps(2, [0.5] * 20),
        "stage1_rate": 1e-2,
        "effective_captions": 0.9,
        "reference_captions": 0.95,
        "collapsed": False,
        "design": "mlp",
    }
    return History(**{**given, **more})


COLLAPSED = {"collapsed": True, "effective_captions": 0.03}
NORMS = [0.5, 0.6, 0.5, 0.4, 0.5]


def lost(share=0.001, **more):
    """A collapsed run whose tokens lost the video in epoch 1 of stage 1."""
    return study(epoch(1, 1, share, **more), **COLLAPSED)


@pytest.mark.parametrize(
    ("history", "said"),
    [
        (study(epoch(1, 1, 0.4), epoch(2, 1, 0.37)), ["No collapse: ", "(37 % of them depends"]),
        (
            study(epoch(1, 1, 0.4), epoch(1, 2, 0.001), epoch(2, 1, 0.001), **COLLAPSED),
            [
                "became alike in epoch 2 of stage 1",
                "0.400 → 0.001, between-video cosine 0.60 → 0.99, effective rank 30.0 → 1.3)",
            ],
        ),
        (
            study(epoch(1, 1, 0.0), epoch(2, 1, 0.0), **COLLAPSED),
            ["epoch 1 of stage 1 (share that depends on the video 0.400 → 0.000", "41.0 → 1.3"],
        ),
        (
            study(epoch(1, 1, 0.4), epoch(2, 1, 0.4), epoch(2, 2, 0.01), **COLLAPSED),
            ["became alike in epoch 2 of stage 2"],
        ),
        (
            study(epoch(1, 1, 0.001), epoch(2, 1, 0.13), **COLLAPSED),
            ["some of it came back (13 % at the end), too late."],
        ),
        (lost(0.0, before=0.01), ["The encoder's own features are alike (1 % of them differs"]),
        (lost(1e-4, start=1e-4), ["alike before training (0.01 % of them", "and stayed so"]),
        (
            study(epoch(1, 1, 0.4), epoch(2, 1, 0.4, grad_share_lora=0.98), **COLLAPSED),
            [
                "Tokens stay apart (40 % of them depends",
                "(distinct captions 0.03, people's 0.95): the language model ignores them",
                "LoRA took 98 % of the squared gradient norm.",
            ],
        ),
        (
            study(epoch(1, 1, 0.4), epoch(2, 1, 0.37), grounded=False),
            ["No collapse, but captions that were not shown to fit their clips: "],
        ),
        (
            study(epoch(1, 1, 0.0, start=0.0), role="control_blind", **COLLAPSED),
            ["Its tokens are one learned constant for every video, by design."],
        ),
    ],
)
def test_the_first_link_that_broke_is_named_with_its_figures(history, said):
    text = english(history)
    assert [part for part in said if part not in text] == []


def test_a_share_of_the_gradient_is_lora_s_alone_above_its_threshold():
    text = english(study(epoch(1, 1, 0.4), epoch(2, 1, 0.4), **COLLAPSED))
    assert "ignores them" in text and "LoRA" not in text


def test_scrambled_neighbours():
    """k = 5 of 31 others: chance .161, spread √(.161 · .839 / 160) = .029."""
    chance, spread = chance_overlap(32)
    assert (chance, spread) == (pytest.approx(5 / 31), pytest.approx(0.0290, abs=1e-4))
    assert chance_overlap(2) == (0.0, 0.0)
    for overlap, scrambled in ((0.2, True), (0.23, False)):
        text = english(study(epoch(2, 1, 0.4, diag_neighbour_overlap=overlap), **COLLAPSED))
        assert ("the projector scrambled what the encoder saw" in text) == scrambled


def test_learning_by_heart():
    epochs = [epoch(1, n, 0.9) for n in (1, 2)]
    epochs[1] |= {"train_loss": 0.98, "val_loss": 1.95}
    text = english(study(*epochs, role="control_noise", grounded=False))
    assert "learned by heart" in text and "(1.80 → 0.98)" in text and "(1.90 → 1.95)" in text
    assert "No collapse" in english(study(*epochs, grounded=True))


@pytest.mark.parametrize(
    ("norms", "step", "said"),
    [
        ([*NORMS, 7.0, 0.5], 10, "exploded at step 6 of stage 1 (7, until then 0.5)"),
        ([*NORMS, 7.0, 0.5], 5, None),  # after the epoch in which the video was lost
        ([*NORMS, 4.0], 10, None),
        ([0.5] * 10 + [0.01] * 10, 10, "median norm 0.5 in the first 5 steps, 0.01 after it"),
    ],
)
def test_what_gradients_say_of_a_video_that_was_lost(norms, step, said):
    text = english(study(epoch(1, 1, 0.001, step=step), norms=steps(1, norms), **COLLAPSED))
    assert said in text if said else "exploded" not in text and "median" not in text


@pytest.mark.parametrize(
    ("entropy", "said"), [(0.0, "single patch"), (0.99, "averages all"), (0.5, None), (None, None)]
)
def test_attention_at_its_edges(entropy, said):
    healthy = study(epoch(1, 1, 0.4, diag_attention_entropy=entropy))
    for text in (english(lost(diag_attention_entropy=entropy)), english(healthy)):
        assert ("attention entropy" in text) == (said is not None) and (said or "") in text
    assert english(healthy).startswith("No collapse: ")


def test_a_cooler_run_of_the_same_design_shows_that_the_rate_was_at_fault():
    hot = replace(lost(), stage1_rate=0.3)
    kept = study(epoch(1, 1, 0.4), stage1_rate=2e-3)
    assert "at stage-1 rate 2e-3 the same design keeps the video" in english(hot, (hot, kept))
    cold = replace(hot, stage1_rate=2e-3)
    for other in (cold, replace(kept, design="other"), replace(kept, stage1_rate=0.5)):
        assert "too high" not in english(hot, (hot, other))


@pytest.mark.parametrize("share", [0.039, 0.041])
def test_lost_is_a_tenth_of_what_was_there(share):
    assert LOST == 0.1
    assert (lost_in(lost(share)) is not None) == (share < 0.04)


def test_nothing_is_said_of_what_was_not_measured():
    bare = study({"stage": 1, "epoch": 1, "step": 1, "train_loss": 1.0, "val_loss": 1.0})
    assert history_points(bare, "diag_video_share_after") == ()
    for history in (bare, study(epoch(1, 1, 0.4, diag_n=0))):
        assert english(history).startswith("Not measured")


def test_every_sentence_is_one():
    for cause in CAUSES:
        assert cause.__doc__ and cause(study(epoch(1, 1, 0.4))) is None
    worst = study(
        epoch(1, 1, 0.001, diag_attention_entropy=0.0),
        epoch(1, 2, 0.1),
        norms=steps(1, [0.5] * 6 + [9.0] * 4 + [0.001] * 10),
        **COLLAPSED,
    )
    text = english(worst, (worst, study(epoch(1, 1, 0.4), stage1_rate=1e-4)))
    assert re.findall(r"\.(?=\s|$)", text) == ["."] and "\n" not in text


def test_points_begin_before_training_and_go_on_through_both_stages():
    history = study(epoch(1, 1, 0.3), epoch(1, 2, 0.2), epoch(2, 1, 0.1))
    shares = history_points(history, "diag_video_share_after")
    assert shares == ((0, 0.4), (1, 0.3), (2, 0.2), (3, 0.1))
    assert [x for x, _ in history_points(history, "grad_share_lora")] == [1, 2, 3]


def test_runs_of_one_seed_that_report_a_half_each_are_told_apart():
    half = study(epoch(1, 1, 0.3), cell="mlp_a", role="report", seed=1, reports_half=True)
    assert run_name(half).en == "Report run of one half (mlp_a)"
    assert history_name(half).en == "mlp · report run · seed 1 · mlp_a"
    assert run_name(study(epoch(1, 1, 0.3))).en == "Tuning run"


#: Of the table below the runs.
FIGURES = "Where the video was lost, in figures"


def test_the_page_shows_the_sentences_and_draws_the_figures(page):
    section = part(page, "runs")
    assert "became alike in epoch 2 of stage 1" in section
    assert "one learned constant for every video, by design" in section
    assert FIGURES in section
    titles = [label(f"charts.diag.{name}").en for name in DIAGNOSED]
    drawn = section.split('id="figure-diagnosis"')[1].split("</svg>")[0]
    assert [title for title in titles if title not in drawn] == []


def test_a_study_that_measured_nothing_has_no_section(tmp_path, make_study):
    made = make_study(tmp_path, projectors=2, clips=4)
    for path in tmp_path.glob("*/*/epochs.parquet"):
        table = pl.read_parquet(path)
        table.select(c for c in table.columns if "diag_" not in c).write_parquet(path)
    html = made.report()
    assert FIGURES not in html and 'id="figure-diagnosis"' not in html
