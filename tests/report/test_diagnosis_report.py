"""The sentence that says why: planted histories, thresholds from both sides, and the section."""

import json
import re
from dataclasses import replace

import pytest

from siglip_study.report import collapse_cause as rules
from siglip_study.report import results as history_module
from siglip_study.report.collapse_cause import chance_overlap, why
from siglip_study.report.diagnosis import FIGURES, chart_rows, table_row
from siglip_study.report.results import History, lost_in


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


def test_a_healthy_projector_has_no_cause():
    text = why(study(epoch(1, 1, 0.4), epoch(1, 2, 0.38), epoch(2, 1, 0.37)))
    assert text == "No collapse: tokens follow the video to the end (37 % of them depends on it)."


def test_a_projector_that_became_a_constant_names_epoch_and_figures():
    text = why(study(epoch(1, 1, 0.4), epoch(1, 2, 0.001), epoch(2, 1, 0.001), **COLLAPSED))
    assert text == (
        "Tokens of all videos became alike in epoch 2 of stage 1 (share that depends on the video "
        "0.400 → 0.001, between-video cosine 0.60 → 0.99, effective rank 30.0 → 1.3): the "
        "projector lost the video."
    )


@pytest.mark.parametrize(
    ("epochs", "said"),
    [
        (
            [epoch(1, 1, 0.0), epoch(2, 1, 0.0)],
            ("epoch 1 of stage 1 (share that depends on the video 0.400 → 0.000", "41.0 → 1.3"),
        ),
        (
            [epoch(1, 1, 0.4), epoch(2, 1, 0.4), epoch(2, 2, 0.01)],
            ("became alike in epoch 2 of stage 2",),
        ),
        (
            [epoch(1, 1, 0.001), epoch(2, 1, 0.13)],
            ("some of it came back (13 % at the end), too late.",),
        ),
        (
            [epoch(1, 1, 0.0, before=0.01)],
            (
                "The encoder's own features are alike (1 % of them differs",
                "there is nothing that a projector could pass on",
            ),
        ),
        (
            [epoch(1, 1, 1e-4, start=1e-4)],
            ("alike before training (0.01 % of them depended on the video) and stayed so",),
        ),
    ],
)
def test_where_a_collapsed_run_lost_the_video(epochs, said):
    text = why(study(*epochs, **COLLAPSED))
    assert [part for part in said if part not in text] == []


def test_a_language_model_that_ignores_tokens():
    last = epoch(2, 1, 0.4, grad_share_lora=0.98)
    text = why(study(epoch(1, 1, 0.4), last, **COLLAPSED))
    assert text == (
        "Tokens stay apart (40 % of them depends on the video, between-video cosine 0.60), but "
        "captions do not (effective captions 0.03, people's 0.95): the language model ignores "
        "them; LoRA took 98 % of the squared gradient norm."
    )
    shared = why(study(epoch(1, 1, 0.4), epoch(2, 1, 0.4), **COLLAPSED))
    assert "ignores them" in shared and "LoRA" not in shared


def test_tokens_that_follow_the_video_under_captions_that_do_not():
    text = why(study(epoch(1, 1, 0.4), epoch(2, 1, 0.37), grounded=False))
    assert text.startswith("No collapse, but captions that were not shown to fit their clips: ")


def test_scrambled_neighbours():
    """k = 5 of 31 others: chance .161, spread √(.161 · .839 / 160) = .029."""
    chance, spread = chance_overlap(32)
    assert (chance, spread) == (pytest.approx(5 / 31), pytest.approx(0.0290, abs=1e-4))
    assert chance_overlap(2) == (0.0, 0.0)
    by_chance = study(epoch(2, 1, 0.4, diag_neighbour_overlap=0.2), **COLLAPSED)
    assert "the projector scrambled what the encoder saw" in why(by_chance)
    kept = study(epoch(2, 1, 0.4, diag_neighbour_overlap=0.23), **COLLAPSED)
    assert "scrambled" not in why(kept)


def test_learning_by_heart():
    epochs = [epoch(1, n, 0.9) for n in (1, 2)]
    epochs[1] |= {"train_loss": 0.98, "val_loss": 1.95}
    text = why(study(*epochs, role="control_noise", grounded=False))
    assert "learned by heart" in text and "(1.80 → 0.98)" in text and "(1.90 → 1.95)" in text
    assert "No collapse" in why(study(*epochs, grounded=True))


def test_a_constant_by_design():
    text = why(study(epoch(1, 1, 0.0, start=0.0), role="control_blind", **COLLAPSED))
    assert text == "Its tokens are one learned constant for every video, by design."


def test_an_explosion_names_its_step():
    norms = steps(1, [0.5, 0.6, 0.5, 0.4, 0.5, 7.0, 0.5])
    text = why(study(epoch(1, 1, 0.001), norms=norms, **COLLAPSED))
    assert "exploded at step 6 of stage 1 (7, until then 0.5): the learning rate is too" in text
    later = why(study(epoch(1, 1, 0.001, step=5), norms=norms, **COLLAPSED))
    assert "exploded" not in later  # after the epoch in which the video was lost: not its cause
    calm = steps(1, [0.5, 0.6, 0.5, 0.4, 0.5, 4.0])
    assert "exploded" not in why(study(epoch(1, 1, 0.001), norms=calm, **COLLAPSED))


def test_a_gradient_that_vanished():
    norms = steps(1, [0.5] * 10 + [0.01] * 10)
    text = why(study(epoch(1, 1, 0.001), norms=norms, **COLLAPSED))
    assert "median norm 0.5 in the first 5 steps, 0.01 after it" in text


@pytest.mark.parametrize(
    ("entropy", "said"), [(0.0, "single patch"), (0.99, "averages all"), (0.5, None), (None, None)]
)
def test_attention_at_its_edges(entropy, said):
    lost = study(epoch(1, 1, 0.001, diag_attention_entropy=entropy), **COLLAPSED)
    healthy = study(epoch(1, 1, 0.4, diag_attention_entropy=entropy))
    for text in (why(lost), why(healthy)):
        assert ("attention entropy" in text) == (said is not None) and (said or "") in text
    assert why(healthy).startswith("No collapse: ")


def test_every_dashed_line_has_a_colour_of_its_own(page):
    legend = page.split('aria-label="Colours of the diagnosis">')[1].split("</ul>")[0]
    colours = re.findall(r"--c: (#\w+)", legend)
    assert len(colours) == len(set(colours)) > 1


def test_a_cooler_run_of_the_same_design_shows_that_the_rate_was_at_fault():
    hot = study(epoch(1, 1, 0.001), stage1_rate=0.3, **COLLAPSED)
    kept = study(epoch(1, 1, 0.4), stage1_rate=2e-3)
    assert why(hot, (hot, kept)).endswith(
        "at stage-1 rate 2e-3 the same design keeps the video, so that rate 3e-1 is too high."
    )
    lost = replace(hot, stage1_rate=2e-3)
    for other in (lost, replace(kept, design="other"), replace(kept, stage1_rate=0.5)):
        assert "too high" not in why(hot, (hot, other))


@pytest.mark.parametrize("share", [0.039, 0.041])
def test_lost_is_a_tenth_of_what_was_there(share):
    assert history_module.LOST == 0.1
    assert (lost_in(study(epoch(1, 1, share))) is not None) == (share < 0.04)


def test_nothing_is_said_of_what_was_not_measured():
    bare = study({"stage": 1, "epoch": 1, "step": 1, "train_loss": 1.0, "val_loss": 1.0})
    assert why(bare).startswith("Not measured")
    assert chart_rows(bare, "#000") == [] and table_row(bare, ())["share"] == "–"
    off = study(epoch(1, 1, 0.4, diag_n=0))
    assert why(off).startswith("Not measured")


def test_every_sentence_is_one():
    for cause in rules.CAUSES:
        assert cause.__doc__ and cause(study(epoch(1, 1, 0.4))) is None
    worst = study(
        epoch(1, 1, 0.001, diag_attention_entropy=0.0),
        epoch(1, 2, 0.1),
        norms=steps(1, [0.5] * 6 + [9.0] * 4 + [0.001] * 10),
        **COLLAPSED,
    )
    text = why(worst, (worst, study(epoch(1, 1, 0.4), stage1_rate=1e-4)))
    assert re.findall(r"\.(?=\s|$)", text) == ["."] and "\n" not in text


def test_points_begin_before_training_and_go_on_through_both_stages():
    rows = chart_rows(study(epoch(1, 1, 0.3), epoch(1, 2, 0.2), epoch(2, 1, 0.1)), "#123456")
    assert [row["x"] for row in rows] == [0, 1, 2, 3]
    assert [row["diag_video_share_after"] for row in rows] == [0.4, 0.3, 0.2, 0.1]
    assert [row["when"] for row in rows][::3] == ["before training", "stage 2, epoch 1"]
    assert "grad_share_lora" not in rows[0]


def test_runs_of_one_seed_that_report_a_half_each_are_told_apart():
    told = {"role": "report", "seed": 1, "reports_half": True}
    halves = [study(epoch(1, 1, 0.3), cell=f"mlp_{k}", **told) for k in "ab"]
    rows = [table_row(half, tuple(halves)) for half in halves]
    assert [row["run"] for row in rows] == [f"Report run of one half (mlp_{k})" for k in "ab"]
    labels = {point["label"] for half in halves for point in chart_rows(half, "#123456")}
    assert labels == {f"mlp · report run of one half (mlp_{k}) · seed 1" for k in "ab"}
    assert table_row(study(epoch(1, 1, 0.3)), ())["run"] == "Tuning run"


def test_the_page_shows_the_sentences_and_draws_the_figures(page):
    section = page.split('<section id="diagnosis">')[1].split("</section>")[0]
    assert "became alike in epoch 2 of stage 1" in section
    assert "one learned constant for every video, by design" in section
    specs = json.loads(page.split('id="data-specs">')[1].split("</script>")[0])
    for name in FIGURES:
        drawn = name != "diag-attention"  # no projector there attends
        assert (name in specs) == drawn == (f'id="chart-{name}"' in section)
    assert '<a href="#diagnosis">' in page


def test_a_study_that_measured_nothing_has_no_section(tmp_path, make_study):
    import polars as pl

    made = make_study(tmp_path, projectors=2, clips=4)
    for path in tmp_path.glob("*/*/epochs.parquet"):
        table = pl.read_parquet(path)
        table.select(c for c in table.columns if "diag_" not in c).write_parquet(path)
    html = made.report()
    assert 'id="diagnosis"' not in html and "diag-share" not in html
