"""Budgets come from COURSE_PROFILE alone."""

import pytest
import torch

from course_lib.profile import budget, profile


@pytest.mark.parametrize(("word", "steps"), [("smoke", 50), ("cpu", 2000), ("gpu", 20000), (" CPU ", 2000)])
def test_the_profile_chooses_the_budget(monkeypatch, word, steps):
    monkeypatch.setenv("COURSE_PROFILE", word)
    assert budget(smoke=50, cpu=2000, gpu=20000) == steps
    assert profile() == word.strip().lower()


@pytest.mark.parametrize("word", ["auto", "", None])
@pytest.mark.parametrize(("there", "expected"), [(True, "gpu"), (False, "cpu")])
def test_auto_means_gpu_where_cuda_is(monkeypatch, word, there, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.delenv("COURSE_PROFILE", raising=False)
    if word is not None:
        monkeypatch.setenv("COURSE_PROFILE", word)
    assert profile() == expected


def test_an_unknown_profile_is_one_sentence(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "tpu")
    with pytest.raises(ValueError, match="expected COURSE_PROFILE to be smoke, cpu, gpu or auto, got 'tpu'"):
        profile()


@pytest.mark.parametrize("bad", [0, -1, 2.5, True, "50"])
def test_a_budget_is_a_whole_number_of_at_least_one(bad):
    with pytest.raises(ValueError, match="expected a whole number of at least 1 for cpu"):
        budget(smoke=1, cpu=bad, gpu=1)
