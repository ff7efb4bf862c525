"""Edits of captions that change no meaning may move D, and hardly M; no order turns."""

import numpy as np
import pytest

from siglip_study.demo.captions import caption
from siglip_study.demo.dataset import plan_dataset
from siglip_study.demo.render import render_frame
from siglip_study.features.scorer import Scorer
from siglip_study.metrics import siglip
from tools.demo_models.scenes import frame_times
from tools.simulation.edits import EDITS, figures

CLIPS = 40
FILL = ("one filler sentence", "three filler sentences")
#: All that change no meaning.
SAME = [name for name in EDITS if name != "first sentence"]


@pytest.fixture(scope="module")
def edited():
    """Edit → figures of captioners who see all, and who see three clips in four, of one world."""
    scorer = Scorer("resources/demo/scorer")
    scenes = [c.scene for c in plan_dataset({"train": 1, "report": CLIPS}, seed=3)[-CLIPS:]]
    times = frame_times(CLIPS, 0, 0.0)
    frames = [
        np.stack([render_frame(scene, float(t), 64) for t in row])
        for scene, row in zip(scenes, times, strict=True)
    ]
    images = siglip.clip_vectors(list(scorer.encode(np.stack(frames)).numpy()))
    rng = np.random.default_rng(4)
    own = [caption(scene, rng, style="clips") for scene in scenes]
    captioners = {"sees": own, "sees less": own[: 3 * CLIPS // 4] + own[: CLIPS // 4]}
    return {
        edit: {
            name: figures([change(text) for text in said], scorer, images)
            for name, said in captioners.items()
        }
        for edit, change in EDITS.items()
    }


@pytest.mark.parametrize("edit", SAME)
def test_an_edit_without_meaning_hardly_moves_m(edited, edit):
    for name, found in edited[edit].items():
        usual = edited["as they are"][name]["M"]
        assert found["M"] == pytest.approx(usual, rel=0.10 if edit in FILL else 0.03)


@pytest.mark.parametrize("edit", SAME)
def test_an_edit_of_one_captioner_turns_no_order(edited, edit):
    assert edited[edit]["sees"]["M"] > edited["as they are"]["sees less"]["M"]
    assert edited["as they are"]["sees"]["M"] > edited[edit]["sees less"]["M"]


def test_filler_moves_d_by_half(edited):
    d = {edit: told["sees"]["D"] for edit, told in edited.items()}
    assert d["three filler sentences"] < 0.6 * d["as they are"]
