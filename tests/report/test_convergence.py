"""Whether runs were long enough."""

from types import SimpleNamespace

import numpy as np
import pytest
from pandas import DataFrame

from spt.report.convergence import convergence_frame


def runs(*scores: list[float], **changed: str) -> DataFrame:
    """The runs of a cell, with the dev scores of their epochs in percent; row 0 is before training."""
    histories = [
        [{"epoch": 0}, *({"epoch": epoch, "dev_f1": score / 100} for epoch, score in enumerate(own, start=1))]
        for own in scores
    ]
    place = {
        "profile": "",
        "cell": "c",
        "model": "m",
        "task": "t",
        "row": "r",
        "setting": "",
        "value": "",
        "shown_profile": "",
    }
    place |= {"role": "seed", "status": "finished"} | changed
    return DataFrame(
        [place | {"run": SimpleNamespace(record={"metric": "f1"}, history=history)} for history in histories]
    )


def judged(*scores: list[float]) -> SimpleNamespace:
    (row,) = convergence_frame(runs(*scores)).to_dict("records")
    return SimpleNamespace(**row)


def test_the_rise_is_that_between_the_halves_of_the_last_quarter():
    rising = [*range(12), 50, 52, 60, 62]
    cell = judged(rising, [score + 1 for score in rising])
    assert cell.epochs == 16 and cell.n == 2 and cell.rise == pytest.approx(10)
    assert cell.noise == pytest.approx(np.std([61, 62], ddof=1)) and cell.is_rising


def test_a_rise_within_the_noise_of_seeds_is_none():
    flat = [0] * 12
    assert not judged([*flat, 50, 50, 51, 51], [*flat, 56, 56, 57, 57]).is_rising
    assert not judged([1, 2, 60, 58], [1, 2, 60, 58]).is_rising


def test_few_epochs_have_halves_of_one_epoch():
    assert judged([10, 20, 35], [10, 20, 35.5]).rise == pytest.approx(15.25)


def test_one_seed_has_no_noise():
    cell = judged([10, 20, 30])
    assert cell.rise == pytest.approx(10) and np.isnan(cell.noise) and cell.is_rising is None


def test_runs_of_one_epoch_trials_and_diverged_runs_are_left_out():
    for left_out in (runs([10]), runs([10, 20], role="trial"), runs([10, 20], status="diverged")):
        assert convergence_frame(left_out).empty
