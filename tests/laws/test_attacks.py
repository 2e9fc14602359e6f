"""Every attack in the package goes through its contract: one file in edgeq/attacks is enough to be tested here."""

import dataclasses

import numpy as np
import pytest
import toys

from edgeq.attacks.noise import Noise
from edgeq.core import plugins, rng, scheduler
from edgeq.core.goal import UNTARGETED, Goal
from edgeq.core.threat import Threat

CHEAP = {"steps": 4, "step": 0.4, "batch": 8, "restarts": 2, "lr": 0.02}
LABELS_ALONE = {"steps": 150}  # a label a query says little


def small(name):
    cls = plugins.load(plugins.ATTACKS, name)
    known = {f.name for f in dataclasses.fields(cls)}
    options = {**CHEAP, **(LABELS_ALONE if cls.needs == "label" else {})}
    return cls(**{k: v for k, v in options.items() if k in known})


NAMES = plugins.names(plugins.ATTACKS)
NEEDS = {name: plugins.load(plugins.ATTACKS, name).needs for name in NAMES}
CASES = [(name, norm) for name in NAMES for norm in plugins.load(plugins.ATTACKS, name).norms]
QUERY = [name for name in NAMES if NEEDS[name] in ("scores", "label")]
GRADIENT = [(name, norm) for name, norm in CASES if NEEDS[name] == "gradients"]
EPS = {"linf": (1 / 255, 8 / 255), "l2": (0.05, 1.0)}


def attack(name, threat, rows, clean, seed=0, order=None, batch=None, lanes=None, budget=None, goal=UNTARGETED):
    """Candidates in the order of ``rows``, whatever order and batch they were made in."""
    value = small(name)
    order = np.arange(len(rows)) if order is None else order
    target = toys.LinearTarget()
    candidates, queries = np.zeros_like(clean), np.zeros(len(rows), int)
    if name in QUERY:
        permuted, images = rows[order], clean[order]
        for done in scheduler.run(value, target, permuted, lambda i: images[i], threat, seed, budget, lanes, goal):
            candidates[order[done.index]], queries[order[done.index]] = done.candidates, done.queries
        assert queries.sum() == target.seen, "the count is not what the target saw"
        return candidates, queries
    source = toys.LinearSource(target)
    for start in range(0, len(rows), batch or len(rows)):
        part = order[start : start + (batch or len(rows))]
        candidates[part] = value.craft(source, clean[part], rows[part], threat, seed, goal).candidates
    return candidates, queries


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_candidates_stay_in_ball_range_and_grid_and_the_input_is_left_alone(name, norm):
    rows, clean = toys.rows_and_images(9)
    before = clean.copy()
    for eps in EPS[norm]:
        threat = Threat(norm, eps)
        candidates, _ = attack(name, threat, rows, clean)
        assert candidates.dtype == np.uint8
        assert threat.contains(candidates, clean).all()
        np.testing.assert_array_equal(clean, before)


@pytest.mark.parametrize("name", QUERY)
def test_every_single_query_is_a_candidate_unless_the_attack_roams(name):
    rows, clean = toys.rows_and_images(5)
    threat, value = Threat("linf", 3 / 255), small(name)
    state = value.start(clean, rows, threat, 0)
    for _ in range(3):
        asked = value.ask(state)
        assert asked.shape == (5, value.width, *clean.shape[1:])
        for lane, image in zip(asked, clean, strict=True):
            assert value.roams or threat.contains(lane, image[None]).all()
        state = value.tell(state, toys.LinearTarget(kind="probs").answer(asked.reshape(-1, *clean.shape[1:])))


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_rows_do_not_depend_on_order_batch_or_lanes(name, norm):
    rows, clean = toys.rows_and_images(13)
    threat = Threat(norm, EPS[norm][1])
    whole, cost = attack(name, threat, rows, clean)
    order = np.random.default_rng(3).permutation(13)
    for batch, lanes in ((5, 3), (1, 1)):
        again, again_cost = attack(name, threat, rows, clean, order=order, batch=batch, lanes=lanes)
        np.testing.assert_array_equal(again, whole)
        np.testing.assert_array_equal(again_cost, cost)


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_seed_repeats_and_another_one_differs_where_chance_is_used(name, norm, monkeypatch):
    rows, clean = toys.rows_and_images(40)
    threat = Threat(norm, EPS[norm][1])
    drawn, words = [], rng.words
    monkeypatch.setattr(rng, "words", lambda *args: drawn.append(args) or words(*args))
    (first, cost), (again, _), (other, other_cost) = (attack(name, threat, rows, clean, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert bool(drawn) == ((first != other).any() or (cost != other_cost).any())


@pytest.mark.parametrize("name", QUERY)
@pytest.mark.parametrize("budget", [1, 2, 9, 10, 14, 1000])
def test_the_budget_is_exact(name, budget):
    rows, clean = toys.rows_and_images(11)
    threat = Threat("linf", 1 / 255)
    _, cost = attack(name, threat, rows, clean, budget=budget)
    assert cost.min() >= 1
    assert cost.max() <= budget
    fooled = toys.LinearTarget().answer(clean).fooled(rows.labels)
    assert (cost[fooled] == 1).all(), "a row that is wrong when clean costs its clean check and no more"


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if NEEDS[case[0]] != "nothing"])
def test_attacks_do_better_than_noise(name, norm):
    rows, clean = toys.rows_and_images(60, seed=5)
    target = toys.LinearTarget()
    rows = dataclasses.replace(rows, labels=target.answer(clean).label())  # all right when clean
    threat = Threat(norm, {"linf": 3 / 255, "l2": 0.06}[norm])
    noise = Noise().craft(None, clean, rows, threat, 0).candidates
    hit = [target.answer(candidates).fooled(rows.labels).mean() for candidates in (noise, attack(name, threat, rows, clean)[0])]
    assert hit[1] > hit[0]


@pytest.mark.parametrize("name", QUERY)
def test_a_stopped_row_is_fooled_by_the_candidate_it_kept(name):
    rows, clean = toys.rows_and_images(20, seed=5)
    target = toys.LinearTarget()
    threat = Threat("linf", 6 / 255)
    seen = 0
    value = small(name)
    if value.selection != "first success":
        pytest.skip("goes on after a success")
    for done in scheduler.run(value, target, rows, lambda i: clean[i], threat, 0, None, 4):
        seen += len(done.index)
        np.testing.assert_array_equal(done.first > 0, done.margin > 0)
        assert (done.first <= done.queries).all()
        np.testing.assert_array_equal(target.answer(done.candidates).margin(rows.labels[done.index]), done.margin)
    assert seen == 20


@pytest.mark.parametrize("name", NAMES)
def test_a_wanted_class_is_served_or_refused(name):
    """Rows whose true class is the wanted one keep their clean image, cost one query and do not count as reached."""
    rows, clean = toys.rows_and_images(60, seed=5)
    target, threat, goal = toys.LinearTarget(), Threat("linf", 12 / 255), Goal("class", 2)
    if not plugins.load(plugins.ATTACKS, name).targeted:
        value = small(name)
        for refused in (lambda: attack(name, threat, rows, clean, goal=goal), lambda: value.start(clean, rows, threat, 0, goal)):
            with pytest.raises(ValueError, match="has no targeted form, so it cannot pursue the goal class:2"):
                refused()
        return
    before = goal.reached(target.answer(clean), rows.labels)
    candidates, queries = attack(name, threat, rows, clean, goal=goal)
    spared = rows.labels == 2
    assert 5 < spared.sum() < 55
    np.testing.assert_array_equal(candidates[spared], clean[spared])
    assert threat.contains(candidates, clean).all()
    after = goal.reached(target.answer(candidates), rows.labels)
    assert not after[spared].any()
    if name in QUERY:
        assert (queries[spared] == 1).all()
    if NEEDS[name] != "nothing":
        assert after.sum() > before.sum()
        assert after.sum() > goal.reached(target.answer(attack(name, threat, rows, clean)[0]), rows.labels).sum()


@pytest.mark.parametrize(("name", "norm"), GRADIENT)
def test_diagnostics_of_gradients_are_by_row(name, norm):
    rows, clean = toys.rows_and_images(7)
    value, source = small(name), toys.LinearSource(toys.LinearTarget())
    source.weights[:10] = 0  # ten pixels that nothing depends on
    made = value.craft(source, clean, rows, Threat(norm, EPS[norm][1]), 0)
    told = made.diagnostics
    assert told.trace.shape == (7, value.evaluations())
    assert told.trace.dtype == np.float32
    assert not told.zero.any()
    assert (told.zero_pixels == 10).all()
    known = ~np.isnan(made.loss)
    assert (made.loss <= told.trace.max(axis=1))[known].all()
    source.weights[:] = 0
    told = value.craft(source, clean, rows, Threat(norm, EPS[norm][1]), 0).diagnostics
    assert told.zero.all()
    assert (told.zero_pixels == clean[0].size).all()


@pytest.mark.parametrize("name", QUERY)
def test_diagnostics_of_queries_are_by_row(name):
    rows, clean = toys.rows_and_images(9)
    rows = dataclasses.replace(rows, labels=toys.LinearTarget().answer(clean).label())
    flat = toys.LinearTarget()
    flat.weights[:] = 0  # every answer is a tie: nothing is ever reached, and all differences are zero
    for target in (toys.LinearTarget(), flat):
        for done in scheduler.run(small(name), target, rows, lambda i: clean[i], Threat("linf", 1 / 255), 0, None, 4):
            told = done.diagnostics
            assert told.first.shape == done.index.shape
            if target is flat:
                assert (told.first == -1).all()
            if told.differences is not None:
                assert (told.zero_differences <= told.differences).all()
                assert (told.differences < done.queries).all()
                if target is flat:
                    np.testing.assert_array_equal(told.zero_differences, told.differences)
                    assert (told.differences > 0).all()


# Analytic optima, on images whose ball does not meet 0 or 255, by attacks with the options that they have by default.
REACH = {"gradients": 1.0, "scores": 0.8, "label": 0.6}
"""An attack must fool every row of a linear classifier whose boundary lies within this share of epsilon."""
QUERIES = 4000


def middle(n, classes=2):
    rows, clean = toys.rows_and_images(n, classes=classes, seed=8)
    return rows, (clean // 4 + 96).astype(np.uint8)


def crafted(name, target, source, rows, clean, threat):
    value = plugins.load(plugins.ATTACKS, name)()
    if name not in QUERY:
        return value.craft(source, clean, rows, threat, 0).candidates
    candidates = np.zeros_like(clean)
    for done in scheduler.run(value, target, rows, lambda i: clean[i], threat, 0, QUERIES):
        candidates[done.index] = done.candidates
    return candidates


@pytest.mark.parametrize(("name", "norm"), GRADIENT)
def test_the_optimum_on_a_linear_classifier(name, norm):
    """Of l_inf it is the corner where each pixel goes with the sign of its weight; of l2 the point along the weights."""
    target = toys.LinearTarget(classes=2)
    rows, clean = middle(12)
    threat = Threat(norm, {"linf": 8 / 255, "l2": 0.2}[norm])
    lead = np.where(rows.labels[:, None], -1, 1) * (target.weights[:, 1] - target.weights[:, 0])
    gain = np.abs(lead).sum(axis=1) * threat.pixels if norm == "linf" else np.sqrt(np.square(lead).sum(axis=1)) * threat.pixels
    before = target.answer(clean).margin(rows.labels)
    after = target.answer(crafted(name, target, toys.LinearSource(target), rows, clean, threat)).margin(rows.labels)
    if norm == "linf":
        np.testing.assert_array_equal(after, before + gain)
    else:
        assert ((after - before) > 0.97 * gain).all()
        assert ((after - before) <= gain * (1 + 1e-6)).all()


@pytest.mark.parametrize("name", [name for name, norm in CASES if norm == "linf" and NEEDS[name] != "nothing"])
def test_every_row_is_fooled_whose_boundary_is_near_enough(name):
    target = toys.LinearTarget(classes=2)
    target.weights[:, 1] = target.weights[::-1, 0]  # so that images of one mean brightness lie around the boundary
    rows, clean = middle(300)
    answer = target.answer(clean)
    rows = dataclasses.replace(rows, labels=answer.label())
    distance = -answer.margin(rows.labels) / np.abs(target.weights[:, 1] - target.weights[:, 0]).sum()
    threat = Threat("linf", 8 / 255)
    near = np.flatnonzero((distance > 0) & (distance < REACH[NEEDS[name]] * threat.pixels))[:40]
    far = np.flatnonzero(distance >= threat.pixels)[:5]
    assert len(near) == 40
    candidates = crafted(name, target, toys.LinearSource(target), rows[near], clean[near], threat)
    assert target.answer(candidates).fooled(rows.labels[near]).all()
    candidates = crafted(name, target, toys.LinearSource(target), rows[far], clean[far], threat)
    assert not target.answer(candidates).fooled(rows.labels[far]).any()


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if NEEDS[case[0]] in ("gradients", "scores")])
def test_the_optimum_on_a_quadratic_classifier(name, norm):
    """It is the point of the ball nearest to the peak, some of whose pixels lie inside. Whoever asks once cannot see how far to go."""
    rows, clean = middle(10)
    rows = dataclasses.replace(rows, labels=np.zeros(10, np.int64))
    bowl = toys.Bowl(clean.reshape(10, -1).astype(int).mean(axis=0).astype(int) + np.arange(30) % 7)
    threat = Threat(norm, {"linf": 12 / 255, "l2": 0.2}[norm])
    x, away = clean.reshape(10, -1).astype(np.float64), bowl.peak - clean.reshape(10, -1).astype(np.float64)
    size = np.sqrt(np.square(away).sum(axis=1, keepdims=True))
    best = x + (np.clip(away, -threat.pixels, threat.pixels) if norm == "linf" else away * np.minimum(1, threat.pixels / size))
    before, optimum = (-np.square(at - bowl.peak).sum(axis=1) for at in (x, best))
    candidates = crafted(name, bowl, bowl, rows, clean, threat)
    share = (bowl.answer(candidates).raw[:, 1] - before) / (optimum - before)
    once = name not in QUERY and plugins.load(plugins.ATTACKS, name)().evaluations() == 1
    assert (share > (0.8 if once else 0.95)).all()
    assert (share <= 1.001).all()
