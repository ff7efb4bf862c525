"""Frames are repeatable, and what the facts say can be seen in them."""

import dataclasses
import itertools

import numpy as np
import pytest

from siglip_study.demo.render import render_frame, render_frames
from siglip_study.demo.world import ATTRIBUTES, Scene, positions, sample_scene

SCENE = Scene("ball", "red", "small", "1", "right", "field", "clear", "static", 5)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_shape_type_and_repeatability():
    frames = render_frames(SCENE, 5, 64)
    assert frames.shape == (5, 64, 64, 3)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, render_frames(SCENE, 5, 64))
    np.testing.assert_array_equal(frames[2], render_frame(SCENE, 0.5, 64))
    other = dataclasses.replace(SCENE, render_seed=6)
    assert difference(frames[2], render_frame(other, 0.5, 64)) > 1
    assert render_frame(SCENE, 0.5).shape == (96, 96, 3)


@pytest.mark.parametrize("attribute", ["thing", "colour", "size", "count", "place", "weather"])
def test_a_single_frame_shows_the_attribute(attribute):
    pictures = [
        render_frame(dataclasses.replace(SCENE, **{attribute: v}), 0.5, 64)
        for v in ATTRIBUTES[attribute]
    ]
    assert min(picture.std() for picture in pictures) > 5
    for a, b in itertools.combinations(pictures, 2):
        assert difference(a, b) > 0.5


@pytest.mark.parametrize("weather", ATTRIBUTES["weather"])
def test_colours_can_be_told_in_every_weather(weather):
    """The middle of a large ball is nearest, in RGB, to the same colour's on a clear day."""

    def middle(colour: str, weather: str, seed: int) -> np.ndarray:
        scene = Scene("ball", colour, "large", "1", "still", "city", weather, "static", seed)
        x, y, r = (round(v * 96) for v in positions(scene, 0.5)[0])
        patch = render_frame(scene, 0.5)[y - r // 2 : y + r // 2, x - r // 2 : x + r // 2]
        return np.median(patch.reshape(-1, 3).astype(float), axis=0)

    clear = {c: np.mean([middle(c, "clear", s) for s in range(8)], 0) for c in ATTRIBUTES["colour"]}
    for colour in ATTRIBUTES["colour"]:
        for seed in range(20, 30):
            seen = middle(colour, weather, seed)
            nearest = min(clear, key=lambda c: float(np.linalg.norm(clear[c] - seen)))
            assert nearest == colour


def test_the_thing_is_drawn_where_positions_say():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene = sample_scene(rng, "tower")
        scene = dataclasses.replace(
            scene, thing="ball", colour="red", weather="clear", place="city", camera="static"
        )
        for t in (0.1, 0.9):
            frame = render_frame(scene, t).astype(int)
            red = (frame[..., 0] > 150) & (frame[..., 1] < 90) & (frame[..., 2] < 90)
            area = sum(np.pi * (r * 96) ** 2 for _, _, r in positions(scene, t))
            assert 0.4 * area < red.sum() < 1.05 * area
            for x, y, _ in positions(scene, t):
                if 0.02 < x < 0.98 and 0.02 < y < 0.98:
                    assert red[int(y * 96), int(x * 96)]


def test_zoom_moves_the_background_and_a_static_camera_does_not():
    still = dataclasses.replace(SCENE, motion="still", place="city")
    first, last = render_frame(still, 0.1), render_frame(still, 0.9)
    np.testing.assert_array_equal(first, last)
    zoomed = dataclasses.replace(still, camera="zoom_in")
    assert difference(render_frame(zoomed, 0.1), render_frame(zoomed, 0.9)) > 5
