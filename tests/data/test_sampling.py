import numpy as np
import pytest

from siglip_study.data.decoding import frame_indices, frame_times


def test_times_are_the_middles_of_equal_parts() -> None:
    assert frame_times(8.0, 4).tolist() == [1.0, 3.0, 5.0, 7.0]
    assert frame_times(3.0, 1).tolist() == [1.5]


def test_constant_rate_is_uniform_in_frames() -> None:
    pts = np.arange(240) / 30
    assert frame_indices(pts, 8).tolist() == list(range(15, 240, 30))


def test_variable_rate_is_uniform_in_time_not_in_frames() -> None:
    # 100 frames in the first second, then one frame a second: a hand-worked case.
    pts = np.concatenate([np.arange(100) / 100, [1.0, 2.0, 3.0]])
    # 4 s long: the middles are .5, 1.5, 2.5, 3.5 s.
    assert frame_indices(pts, 4, duration_s=4.0).tolist() == [50, 100, 101, 102]


def test_a_frame_that_begins_at_the_time_is_on_screen() -> None:
    # .1 + .2 style rounding must not push the sample to the frame before.
    pts = np.array([0.0, 0.1, 0.2, 0.1 + 0.2, 0.4, 0.5])
    assert frame_indices(pts, 1, duration_s=0.6).tolist() == [3]


def test_few_frames_repeat_and_one_frame_fills_all() -> None:
    assert frame_indices([0.0, 1.0], 4, duration_s=2.0).tolist() == [0, 0, 1, 1]
    assert frame_indices([0.0], 8).tolist() == [0] * 8


def test_long_last_frame_counts_with_its_duration() -> None:
    assert frame_indices([0.0, 1.0], 4, duration_s=10.0).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("pts", [[], [0.0, 0.0], [0.5, 1.0], [0.0, 2.0, 1.0]])
def test_impossible_timestamps_are_refused(pts: list[float]) -> None:
    with pytest.raises(ValueError):
        frame_indices(pts, 2)


@pytest.mark.parametrize(("duration", "n"), [(1.0, 0), (-1.0, 2), (float("nan"), 2)])
def test_impossible_requests_are_refused(duration: float, n: int) -> None:
    with pytest.raises(ValueError):
        frame_times(duration, n)
