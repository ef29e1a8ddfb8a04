"""The templates of docs/templates work as they are."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import counterpoint as cp
from counterpoint.data import source
from counterpoint.metrics import groups

TEMPLATES = Path(__file__).resolve().parent.parent / "docs" / "templates"


def template(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"template_{name}", TEMPLATES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data() -> cp.data.Dataset:
    module = template("data_set")
    return module.SOURCE.open(
        source.Request("template", Path("."), seed=1), module.TemplateOptions()
    )


def test_a_data_set_has_splits_of_its_modalities(data: cp.data.Dataset) -> None:
    assert {part: len(split) for part, split in data.splits().items()} == {
        "train": 200,
        "val": 50,
        "test": 50,
    }
    x = data.train.batch(slice(None)).x
    assert torch.corrcoef(torch.stack([x["left"][:, 0], x["right"][:, 0]]))[0, 1] > 0.9


def test_a_method_takes_a_step(data: cp.data.Dataset) -> None:
    method = template("method").Template.for_data(data, shared_dim=2, beta=0.5)
    result = method.fit(data.train, max_steps=2, progress=False)
    assert result.steps == 2 and "train/kl" in result.metrics


def test_a_metric_is_measured(data: cp.data.Dataset) -> None:
    group = template("metric").GROUP
    groups.register(group)
    try:
        method = cp.MVAE.for_data(data, shared_dim=2)
        evaluation = cp.evaluate(method, data, only=["spread"], rows=20, progress=False)
    finally:
        del groups.GROUPS[group.name]
    assert {"spread", "spread/left", "spread/right"} == {*evaluation.metrics}
