"""The whole ranking, in studies whose truth is known and in ones made to mislead it."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy import stats

from siglip_study import ranking
from siglip_study.base.errors import StudyError
from siglip_study.ranking.caveats import Circumstances
from siglip_study.ranking.gate import GateThresholds, References
from siglip_study.ranking.procedure import (
    Entry,
    Ranking,
    Refusal,
    copied_runs,
    rank_study,
    read_ranking,
    write_ranking,
)
from siglip_study.ranking.scorer_check import check_scorer

N, SEEDS = 60, 3
GROUPS = [f"v{i:02d}" for i in range(N)]
_RNG = np.random.default_rng(0)
HUMAN = References(effective=0.9, top_share=0.03, mean_margin=0.1)
SCORER = check_scorer(_RNG.normal(0.1, 0.03, (N, N)) + 0.1 * np.eye(N), GROUPS)
#: Human captions that tell clips of one category apart as well.
WITHIN = replace(HUMAN, mean_margin=0.5, within=0.5 + _RNG.normal(0, 0.02, N))


def entry(mean: float, name: int = 0, seeds: int = SEEDS, diversity: float = 0.8) -> Entry:
    rng = np.random.default_rng(name)
    margins = mean + rng.normal(0, 0.03, (seeds, N)) + rng.normal(0, 0.002, (seeds, 1))
    top = 0.03 if diversity > 0.5 else 0.5
    return Entry(margins, [diversity] * seeds, [top] * seeds)


def inside(mean: float, within: float, name: int) -> Entry:
    """One whose D within category is ``within``."""
    margins, own = np.random.default_rng(name).normal([[[mean]], [[within]]], 0.05, (2, SEEDS, N))
    return Entry(margins, [0.9] * SEEDS, [0.03] * SEEDS, own)


def planted(seeds: int = SEEDS) -> dict[str, Entry]:
    """Captioners with 0, 25, 50, 75 and 100 % of the facts right."""
    return {f"facts_{100 * k // 4}": entry(0.025 * k, k, seeds) for k in range(5)}


def ranked(entries: dict[str, Entry], groups=GROUPS, human=HUMAN, scorer=SCORER, **more) -> Ranking:
    return rank_study(entries, groups, human, scorer, **more)


def rows(found: Ranking) -> dict:
    return {own.projector: own for own in found.projectors}


def codes(found: Ranking) -> list[str]:
    return [caveat.code for caveat in found.caveats]


# ---- What is answered.


def test_planted_captioners_come_out_in_order() -> None:
    found = ranked(planted())
    order = ["facts_100", "facts_75", "facts_50", "facts_25"]
    places = [(rows(found)[name].rank_low, rows(found)[name].rank_high) for name in order]
    assert places == [(1, 1), (2, 2), (3, 3), (4, 4)]
    last = rows(found)["facts_0"]
    assert (last.ranked, last.rank_low) == (False, None)
    assert last.gate.verdict in ("ungrounded", "undetermined")
    assert (found.answer.code, found.answer.best) == ("first", ("facts_100",))
    assert "not_ranked" in codes(found)
    assert len(found.pairs) == 10  # gated ones are tested too
    assert [own.projector for own in found.projectors] == [*order, "facts_0"]


def test_it_depends_on_no_order() -> None:
    entries = planted()
    shuffled = np.random.default_rng(3).permutation(N)
    turned = {
        name: replace(e, margins=np.asarray(e.margins)[:, shuffled])
        for name, e in reversed(entries.items())
    }
    found, again = ranked(entries), ranked(turned, [GROUPS[i] for i in shuffled])
    assert found.answer == again.answer
    assert [p.p_holm for p in again.pairs] == pytest.approx([p.p_holm for p in found.pairs])


def test_what_is_written_is_read(tmp_path) -> None:
    bar = np.random.default_rng(5).normal(0.04, 0.03, N)
    for given in (
        {"retrieval": bar, "circumstances": Circumstances(truncated={"a": 0.25})},
        {"circumstances": Circumstances(tuned={"a": [[0.1, 0.2]]}, n_tuning_seeds=2)},
        {"human": WITHIN},
        {"groups": ["v"] * N},
    ):
        found = ranked({"a": inside(0.1, 0.1, 1), "b": inside(0.0, 0.0, 2)}, **given)
        write_ranking(tmp_path / "ranking.json", found)
        assert read_ranking(tmp_path / "ranking.json") == found


def test_a_file_that_lacks_a_figure_is_named(tmp_path) -> None:
    path = tmp_path / "ranking.json"
    write_ranking(path, ranked(planted()))
    body = json.loads(path.read_text())
    del body["pairs"][0]["difference"]
    path.write_text(json.dumps(body))
    with pytest.raises(StudyError, match=r"ranking\.json: 'pairs\.0\.difference'"):
        read_ranking(path)


@pytest.mark.parametrize(
    ("entries", "code", "best"),
    [
        ({"a": entry(0.05), "b": entry(0.05)}, "no_difference", {"a", "b"}),
        ({"a": entry(0.08, 1), "b": entry(0.08, 2), "c": entry(0.03, 3)}, "no_first", {"a", "b"}),
        ({"a": entry(0.08, 1), "b": entry(0.0, 2)}, "only_ranked", {"a"}),
        ({"a": entry(0.08)}, "only_projector", {"a"}),
    ],
)
def test_where_nobody_is_shown_to_be_first(entries, code, best) -> None:
    answer = ranked(entries).answer
    assert (answer.code, set(answer.best)) == (code, best)


def test_collapsed_and_templated() -> None:
    found = rows(
        ranked(
            {
                "collapsed": entry(0.0, 1, diversity=0.05),
                "boilerplate": entry(0.05, 2, diversity=0.1),
                "free": entry(0.08, 3),
            }
        )
    )
    assert (found["collapsed"].gate.verdict, found["collapsed"].ranked) == ("collapsed", False)
    assert found["boilerplate"].ranked
    assert found["boilerplate"].gate.stamps == ("templated",)
    assert (found["free"].rank_low, found["boilerplate"].rank_low) == (1, 2)


def test_a_collapsed_run_widens_no_interval_but_its_own_projectors() -> None:
    alone = {name: entry(0.1 - 0.03 * i, i) for i, name in enumerate("abc")}
    fallen = entry(0.07, 9)
    margins = np.asarray(fallen.margins).copy()
    margins[0] = 0.0
    neighbour = Entry(margins, [0.05, 0.8, 0.8], [0.5, 0.03, 0.03])
    beside = ranked({**alone, "neighbour": neighbour})
    assert rows(beside)["neighbour"].gate.verdict == "unstable"
    intervals = {(p.a, p.b): (p.low, p.high) for p in beside.pairs}
    for own in ranked(alone).pairs:
        assert intervals[own.a, own.b] == pytest.approx((own.low, own.high))


def test_who_was_refused_with_a_higher_d_is_named() -> None:
    entries = {"a": inside(0.1, 0.1, 1), "loud": inside(0.3, 0, 2), "c": inside(0.05, 0.05, 3)}
    found = ranked(entries, human=WITHIN)
    gates = {own.projector: own.gate.verdict for own in found.projectors}
    assert gates == {"a": "grounded", "c": "grounded", "loud": "category_only"}
    assert (found.answer.code, found.answer.above) == ("first", ("loud",))
    assert ranked({**entries, "loud": inside(0.08, 0, 2)}, human=WITHIN).answer.above == ()


# ---- Why there are no ranks.


#: Two of its runs are one.
COPIED = replace(entry(0.1, 1), margins=np.asarray(entry(0.1, 1).margins)[[0, 0, 2]])
BLIND = check_scorer(np.random.default_rng(1).normal(0.1, 0.03, (N, N)), GROUPS)
REFUSED = {
    "scorer_cannot_tell": (planted(), {"scorer": BLIND}),
    "one_group": (planted(), {"groups": ["v"] * N}),
    "one_seed": (planted(seeds=1), {}),
    "none_grounded": ({"a": entry(0.0, 1), "b": entry(0.0, 2)}, {}),
    "category_only": ({"a": inside(0.2, 0, 1), "b": inside(0, 0, 2)}, {"human": WITHIN}),
    "copied_runs": ({"a": COPIED, "b": entry(0.06, 2)}, {}),
}


@pytest.mark.parametrize("code", REFUSED)
def test_no_ranks_are_given_and_why(code: str) -> None:
    entries, given = REFUSED[code]
    found = ranked(entries, **given)
    assert found.answer.code == "refused"
    assert found.answer.refusal == Refusal(code, ("a",) if code == "copied_runs" else ())
    assert not found.can_rank
    assert not any(own.ranked for own in found.projectors)
    json.dumps(asdict(found), allow_nan=False)


def test_one_seed_has_no_tests_either() -> None:
    found = ranked(planted(seeds=1))
    assert all(pair.p is None and not pair.significant for pair in found.pairs)
    assert max(pair.seed_sd_to_undo for pair in found.pairs) > 0
    assert codes(found)[0] == "one_run"


def test_captions_that_are_all_the_same_are_no_copies() -> None:
    """Their D is 0 in every run, by algebra; such a projector stops nobody else's ranking."""
    zero = Entry(np.zeros((SEEDS, N)), [0.02] * SEEDS, [1.0] * SEEDS)
    assert ranked({"a": entry(0.1, 1), "zero": zero}).can_rank
    assert copied_runs({"zero": np.zeros((2, 4)), "x": np.ones((2, 4))}) == ["x"]
    assert copied_runs({"x": np.ones((1, 4))}) == []
    assert copied_runs({"x": np.array([[1.0, 2.0], [1.0, 2.0 + 1e-7]])}) == ["x"]
    assert copied_runs({"x": np.array([[1.0, 2.0], [1.0, 2.0 + 1e-4]])}) == []


# ---- What limits the answer.


def test_circumstances_become_caveats() -> None:
    given = Circumstances(
        cross_fitted=True,
        chosen_gates={"a": "category_only", "b": "collapsed"},
        truncated={"a": 0.25, "b": 0.0},
    )
    bar = np.random.default_rng(5).normal(0.04, 0.03, N)
    found = ranked(
        {"a": entry(0.08, 1), "b": entry(0.02, 2)},
        [f"v{i // 3:02d}" for i in range(N)],
        retrieval=bar,
        circumstances=given,
    )
    assert found.retrieval.cleared_by == ("a",)
    told = {caveat.code: caveat for caveat in found.caveats}
    assert told["all_tuning_collapsed"].projectors == ("b",)
    assert told["no_tuning_grounded"].projectors == ("a",)
    assert (told["truncated"].projectors, told["truncated"].shares) == (("a",), (0.25,))
    assert told["below_retrieval"].projectors == ("b",)
    assert {"cross_fitted", "few_groups", "fewer_groups_than_clips", "frame_order"} <= set(told)
    assert "halved" not in told


@pytest.mark.parametrize(
    ("seeds", "groups", "present", "absent"),
    [
        (2, GROUPS, {"few_seeds"}, {"one_run", "few_groups"}),
        (3, ["v"] * N, set(), {"few_groups", "fewer_groups_than_clips", "few_seeds"}),
    ],
)
def test_few_seeds_and_groups(seeds, groups, present, absent) -> None:
    found = set(codes(ranked(planted(seeds), groups)))
    assert present <= found
    assert not absent & found


@pytest.mark.parametrize(("alpha", "said"), [(0.05, False), (0.3, True), (0.025, True)])
def test_another_level_is_a_caveat(alpha: float, said: bool) -> None:
    found = ranked(planted(), thresholds=GateThresholds(alpha=alpha))
    assert ("other_level" in codes(found)) == said


# ---- ``ranking.rank``, for margins alone.


def test_two_projectors_of_many_runs_are_welchs_problem_with_clips_taken_out() -> None:
    """Clips that move both alike cancel; what is left is tested against scipy's t by hand."""
    rng = np.random.default_rng(2)
    clips = rng.normal(0, 0.2, 40)
    a, b = (mean + clips + rng.normal(0, 0.02, (3, 40)) for mean in (0.5, 0.4))
    found = ranking.rank({"a": a, "b": b})
    (pair,) = found.pairs
    delta = a.mean(axis=0) - b.mean(axis=0)
    assert pair.difference == pytest.approx(delta.mean())
    # U_clip + U_seed; v_p is freed of the residual mean square, which U_clip holds already.
    own = []
    for y in (a, b):
        residual = y - y.mean(axis=0) - y.mean(axis=1, keepdims=True) + y.mean()
        own.append(y.mean(axis=1).var(ddof=1) - (residual**2).sum() / (2 * 39) / 40)
    pooled = sum(own) / 2
    seeds = sum(max(v, pooled, 0.0) for v in own) / 3
    error = math.sqrt(delta.var(ddof=1) / 40 + seeds)
    half = stats.t.ppf(0.975, pair.df) * error
    assert (pair.low, pair.high) == pytest.approx((delta.mean() - half, delta.mean() + half))
    assert pair.p == pytest.approx(2 * stats.t.sf(delta.mean() / error, pair.df))


def test_the_studys_ranking_is_the_same_core() -> None:
    entries = planted()
    alone = ranking.rank({name: own.margins for name, own in entries.items()}, GROUPS)
    study = ranked(entries)
    assert alone.pairs == study.pairs
    # The references are told from nobody who failed; without them nobody can be called so.
    assert alone.answer == replace(study.answer, avoid=alone.answer.avoid)
    for own, other in zip(alone.projectors, study.projectors, strict=True):
        assert (own.low, own.high, own.rank_low, own.rank_high) == (
            other.low,
            other.high,
            other.rank_low,
            other.rank_high,
        )


def test_margins_alone_are_grounded_or_undetermined() -> None:
    found = rows(ranking.rank({"sees": entry(0.1, 1).margins, "blind": entry(0.0, 2).margins}))
    assert found["sees"].gate.verdict == "grounded"
    assert found["blind"].gate.verdict == "undetermined"
    assert found["sees"].gate.diversity is None


def test_clips_are_independent_unless_groups_say_otherwise() -> None:
    margins = {"a": np.asarray(entry(0.1, 1).margins), "b": np.asarray(entry(0.08, 2).margins)}
    each = ranking.rank(margins)
    assert (each.n_groups, each.n_clips) == (N, N)
    assert each == ranking.rank(margins, [str(i) for i in range(N)])
    # Ten copies of each clip in one video are no more evidence than one.
    tenfold = {name: np.repeat(table, 10, axis=1) for name, table in margins.items()}
    videos = ranking.rank(tenfold, [str(i) for i in range(N) for _ in range(10)])
    assert videos.pairs[0].p == pytest.approx(each.pairs[0].p)
    assert videos.projectors[0].low == pytest.approx(each.projectors[0].low)


@pytest.mark.parametrize(
    ("margins", "alpha", "message"),
    [
        ({}, 0.05, "no projector"),
        ({"a": np.ones(5)}, 0.05, "'a': margins of shape"),
        ({"a": np.ones((3, 5)), "b": np.ones((3, 4))}, 0.05, "'b': margins of shape"),
        ({"a": np.full((3, 5), np.nan)}, 0.05, "15 scores are not finite"),
        ({"a": np.ones((3, 5))}, 0.7, "alpha"),
    ],
)
def test_what_cannot_be_ranked_is_refused(margins, alpha, message) -> None:
    with pytest.raises(StudyError, match=message):
        ranking.rank(margins, alpha=alpha)


def test_a_choice_that_seeds_could_turn_is_told() -> None:
    entries = {name: entry(0.1, k) for k, name in enumerate("abc")}
    given = Circumstances(tuned={"a": [[0.3, 0.1, 0.1]], "b": [[0.1, 0.1001]], "c": [[0.1]]})
    found = ranked(entries, circumstances=given)
    sure, luck = found.tuning  # who has one cell had no choice
    assert (sure.projector, sure.n_cells, sure.n_seeds) == ("a", 3, 1) and sure.best > 0.99
    assert luck.best == 0.5
    told = {caveat.code: caveat for caveat in found.caveats}["tuned_by_luck"]
    assert (told.projectors, told.shares) == (("b",), (0.5,))
    # Of two tuning seeds the mean varies by half as much, in variance.
    twice = ranked(entries, circumstances=replace(given, n_tuning_seeds=2)).tuning
    assert twice[0].run_sd == sure.run_sd and twice[0].best >= sure.best
    # One report seed tells nothing of seeds.
    alone = {name: entry(0.1, k, seeds=1) for k, name in enumerate("abc")}
    assert ranked(alone, circumstances=given).tuning == ()
