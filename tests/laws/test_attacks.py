"""Every attack in the package goes through its contract: one file in edgeq/attacks is enough to be tested here."""

import dataclasses

import numpy as np
import pytest
import toys

from edgeq.core import plugins, scheduler
from edgeq.core.threat import Threat

CHEAP = {"steps": 4, "step": 0.4, "batch": 8, "restarts": 2, "lr": 0.02}
OWN = {"rays": {"steps": 150}}


def small(name):
    cls = plugins.load(plugins.ATTACKS, name)
    known = {f.name for f in dataclasses.fields(cls)}
    return cls(**{k: v for k, v in {**CHEAP, **OWN.get(name, {})}.items() if k in known})


NAMES = plugins.names(plugins.ATTACKS)
CASES = [(name, norm) for name in NAMES for norm in plugins.load(plugins.ATTACKS, name).norms]
QUERY = [name for name in NAMES if plugins.load(plugins.ATTACKS, name).needs in ("scores", "label")]
EPS = {"linf": (1 / 255, 8 / 255), "l2": (0.05, 1.0)}


def attack(name, threat, rows, clean, seed=0, order=None, batch=None, lanes=None, budget=None):
    """Candidates in the order of ``rows``, whatever order and batch they were made in."""
    value = small(name)
    order = np.arange(len(rows)) if order is None else order
    target = toys.LinearTarget()
    candidates, queries = np.zeros_like(clean), np.zeros(len(rows), int)
    if name in QUERY:
        permuted, images = rows[order], clean[order]
        for done in scheduler.run(value, target, permuted, lambda i: images[i], threat, seed, budget, lanes):
            candidates[order[done.index]], queries[order[done.index]] = done.candidates, done.queries
        assert queries.sum() == target.seen, "the count is not what the target saw"
        return candidates, queries
    source = toys.LinearSource(target)
    for start in range(0, len(rows), batch or len(rows)):
        part = order[start : start + (batch or len(rows))]
        candidates[part] = value.craft(source, clean[part], rows[part], threat, seed).candidates
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
def test_a_seed_repeats_and_another_seed_differs_where_chance_is_used(name, norm):
    rows, clean = toys.rows_and_images(40)
    threat = Threat(norm, EPS[norm][1])
    (first, cost), (again, _), (other, other_cost) = (attack(name, threat, rows, clean, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    if name not in ("fgsm", "bim"):
        assert (first != other).any() or (cost != other_cost).any()


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


@pytest.mark.parametrize(("name", "norm"), [case for case in CASES if case[0] != "noise"])
def test_attacks_do_better_than_noise(name, norm):
    rows, clean = toys.rows_and_images(60, seed=5)
    target = toys.LinearTarget()
    rows = dataclasses.replace(rows, labels=target.answer(clean).label())  # all right when clean
    threat = Threat(norm, {"linf": 3 / 255, "l2": 0.06}[norm])
    hit = {n: target.answer(attack(n, threat, rows, clean)[0]).fooled(rows.labels).mean() for n in ("noise", name)}
    assert hit[name] > hit["noise"]


@pytest.mark.parametrize("name", QUERY)
def test_a_stopped_row_is_fooled_by_the_candidate_it_kept(name):
    rows, clean = toys.rows_and_images(20, seed=5)
    target = toys.LinearTarget()
    threat = Threat("linf", 6 / 255)
    seen = 0
    for done in scheduler.run(small(name), target, rows, lambda i: clean[i], threat, 0, None, 4):
        seen += len(done.index)
        np.testing.assert_array_equal(target.answer(done.candidates).margin(rows.labels[done.index]), done.margin)
    assert seen == 20
