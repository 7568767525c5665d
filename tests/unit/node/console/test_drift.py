import numpy as np
import pytest

from ainode.node.console.models.drift import drift, kolmogorov_p, kolmogorov_smirnov, stability_index


def beta(n: int, seed: int, a: float = 0.5, b: float = 0.8) -> np.ndarray:
    return np.random.default_rng(seed).beta(a, b, n)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (30, 400), (500, 2000), (5000, 5000)])
@pytest.mark.parametrize("shift", [0.0, 0.1, 0.3])
def test_distance_and_p_are_those_of_scipy(n: int, m: int, shift: float) -> None:
    from scipy.stats import ks_2samp

    for seed in range(5):
        scores, reference = beta(n, seed, 0.5 + shift), beta(m, seed + 100)
        judged = ks_2samp(scores, reference)
        distance = kolmogorov_smirnov(scores, reference)
        assert distance == pytest.approx(judged.statistic, abs=1e-12)
        p = kolmogorov_p(distance, n, m)
        assert p == pytest.approx(judged.pvalue, abs=0.03, rel=0.2)


def test_scores_that_repeat_have_the_distance_of_scipy() -> None:
    from scipy.stats import ks_2samp

    scores, reference = np.round(beta(300, 0), 1), np.round(beta(200, 1), 1)
    assert kolmogorov_smirnov(scores, reference) == pytest.approx(ks_2samp(scores, reference).statistic, abs=1e-12)


def test_the_stability_index_is_both_divergences_over_tenths_of_the_reference() -> None:
    from scipy.stats import entropy

    scores, reference = beta(4000, 0, 0.7), beta(6000, 1)
    index, bins = stability_index(scores, reference)
    edges = [-np.inf, *np.quantile(reference, np.arange(1, 10) / 10), np.inf]
    shares = [np.histogram(values, edges)[0] + 0.5 for values in (scores, reference)]
    assert bins == 10
    assert index == pytest.approx(entropy(shares[0], shares[1]) + entropy(shares[1], shares[0]), rel=1e-6)


def test_two_periods_without_a_change_stay_below_the_chance_figure_in_95_of_100_cases() -> None:
    drifts = [drift(beta(400, seed), beta(700, seed + 1000)) for seed in range(300)]
    below = [item is not None and item.stability_index < item.chance for item in drifts]
    assert 0.91 < np.mean(below) < 0.99
    assert {item.level for item in drifts if item} == {"none"}


def test_a_change_is_told_by_its_size_and_not_where_the_cases_are_few() -> None:
    changed = drift(beta(400, 0, 2.0), beta(700, 1))
    slight = drift(beta(3000, 0, 0.72), beta(3000, 1))
    assert changed is not None
    assert slight is not None
    assert (changed.level, slight.level) == ("act", "look")
    assert drift(beta(19, 0), beta(700, 1)) is None
    few = drift(beta(20, 3), beta(20, 4))
    assert few is not None
    assert few.level == "none"


def test_scores_that_are_all_alike_have_a_drift_too() -> None:
    same = drift(np.full(50, 0.5), np.full(50, 0.5))
    assert same is not None
    assert (same.distance, same.p, same.level) == (0.0, 1.0, "none")
    assert same.stability_index == pytest.approx(0.0, abs=1e-9)
