"""Our network against the golden vectors of seven public projects, in float64 and float32."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from emo2.convert.golden import Golden, read
from emo2.convert.parity import Difference, compare

FOLDER = Path(__file__).parent / "parity"
PROJECTS = (
    "hallo",
    "echomimic_v1",
    "echomimic_v2",
    "animateanyone",
    "musepose",
    "aniportrait",
    "vexpress",
)


@functools.cache
def golden(project: str) -> Golden:
    return read(FOLDER, project)


def failures(project: str, dtype: torch.dtype) -> list[Difference]:
    found = list(compare(golden(project), dtype))
    assert len(found) == sum(len(golden(project).outputs(case)) for case in ("a", "b"))
    return [difference for difference in found if not difference.passes]


@pytest.mark.parametrize("project", PROJECTS)
def test_every_site_is_exact_in_float64(project: str) -> None:
    assert failures(project, torch.float64) == []


@pytest.mark.parametrize("project", PROJECTS)
def test_every_site_is_right_to_rounding_in_float32(project: str) -> None:
    assert failures(project, torch.float32) == []
