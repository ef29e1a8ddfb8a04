"""Training: what a run computes and leaves behind, how it ends, and that one that was
stopped goes on as if it had not been."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from processes import Fork, finished, ranks, wait_for
from torch import Tensor, nn

import counterpoint as cp
from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.data import Split
from counterpoint.methods import MMVAE
from counterpoint.training import FitOptions, NonFiniteLoss, fit
from counterpoint.training.history import History
from counterpoint.training.options import with_changes
from counterpoint.training.run_folder import leads, write
from counterpoint.training.trainable import Losses, Trainable

MODALITIES = (Modality("a", (6,)), Modality("b", (4,)))
BASE: dict[str, Any] = {
    "batch_size": 8,
    "lr": 1e-2,
    "progress": False,
    "loggers": (),
    "accelerator": "cpu",
}


def rows(count: int, seed: int = 0) -> Split:
    draw = np.random.default_rng(seed)
    return Split(
        {m.name: draw.normal(size=(count, *m.shape)).astype(np.float32) for m in MODALITIES},
        MODALITIES,
    )


class Small(Trainable):
    """A method as ``fit`` sees it: two autoencoders with noise in the code, batch norm
    and dropout, and a term that begins late."""

    name = "small"

    def __init__(self, noise: float = 0.5, slow: float = 0.0, bad_step: int = -1) -> None:
        super().__init__()
        self.options = {"noise": noise}
        self.noise, self.slow, self.bad_step = noise, slow, bad_step
        norm = [nn.BatchNorm1d(5), nn.Dropout(0.2)] if noise else []
        self.nets = nn.ModuleDict(
            {
                m.name: nn.Sequential(nn.Linear(m.shape[0], 5), *norm, nn.Linear(5, m.shape[0]))
                for m in MODALITIES
            }
        )

    @property
    def config(self) -> dict[str, float]:
        return self.options

    def losses(self, batch: Batch, step: int | None = None) -> dict[str, Tensor]:
        if len(batch) < 2:
            raise ValueError("contrast needs two rows")
        time.sleep(self.slow)
        terms = {}
        for name, net in self.nets.items():
            x = batch.x[name]
            terms[f"rec_{name}"] = (net(x + self.noise * torch.randn_like(x)) - x).square().sum(1)
        if step is None or step >= 4:  # None: the final weight of every term
            terms["late"] = 0.1 * terms["rec_a"]
        if step == self.bad_step:
            terms["rec_b"] = terms["rec_b"] * math.nan
        return terms

    def save_pretrained(self, folder: str | Path) -> Path:
        Path(folder).mkdir(exist_ok=True)
        torch.save(self.state_dict(), Path(folder) / "weights.pt")
        return Path(folder)


def small(**options: Any) -> Small:
    torch.manual_seed(1)
    return Small(**options)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    yield
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


# --- what a run computes ---------------------------------------------------------------------------------------------


def test_steps_are_adam_on_the_mean_of_the_summed_terms(tmp_path: Path) -> None:
    """Against a loop written out: same rows, same losses, same weights."""
    from counterpoint.data import BatchLoader

    ours, other = small(noise=0.0), small(noise=0.0)
    result = fit(ours, rows(24), max_epochs=2, clip=0.5, amsgrad=True, log_every=1, **BASE)
    optimiser = torch.optim.Adam(other.parameters(), BASE["lr"], amsgrad=True)
    loader = BatchLoader(rows(24), 8, seed=0)
    losses = []
    for _ in range(2):
        for batch in loader:
            loss = sum(t.mean() for t in other.losses(batch, len(losses)).values())
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(other.parameters(), 0.5)
            optimiser.step()
            losses.append(loss.item())
    assert result.steps == 6
    assert result.history["train/loss"] == pytest.approx(losses, rel=1e-4)
    assert [math.isnan(v) for v in result.history["train/late"]] == [True] * 4 + [False] * 2
    for x, y in zip(ours.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_a_run_lowers_the_loss_and_leaves_its_folder(tmp_path: Path) -> None:
    method, out = small(noise=0.1), tmp_path / "run"
    result = fit(
        method,
        rows(64),
        rows(20, seed=1),
        out=out,
        max_epochs=15,
        log_every=8,
        describe={"name": "noise"},
        **BASE,
    )
    losses = [v for v in result.history["train/loss"] if not math.isnan(v)]
    assert losses[-1] < 0.9 * losses[0]
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == [
        "best.ckpt",
        "config.yaml",
        "last.ckpt",
        "metrics.csv",
        "weights.pt",
    ]
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["method"] == {"name": "small", "config": {"noise": 0.1}} and config["data"] == {
        "name": "noise"
    }
    assert config["rows"] == {"train": 64, "val": 20}
    assert FitOptions(**config["fit"]) == with_changes(
        FitOptions(), {"max_epochs": 15, "log_every": 8, **BASE}
    )
    assert len(result.history["val/loss"]) == len(result.history["step"])
    assert result.best == min(v for v in result.history["val/loss"] if not math.isnan(v))
    assert result.steps == 15 * 8 and result.samples_per_second > 0 and result.folder == out
    assert not method.training
    lines = (out / "metrics.csv").read_text().splitlines()
    assert lines[0].startswith("step,epoch,") and len(lines) == 1 + len(result.history["step"])


def test_a_window_of_the_log_averages_its_steps() -> None:
    each = fit(small(), rows(32), max_steps=6, log_every=1, **BASE).history["train/rec_a"]
    windows = fit(small(), rows(32), max_steps=6, log_every=4, **BASE).history["train/rec_a"]
    assert windows == pytest.approx([np.mean(each[:4]), np.mean(each[4:])])


def test_validation_is_the_mean_over_rows_and_does_not_move_the_training_noise() -> None:
    with_val, without = small(), small()
    val = rows(19, seed=1)
    result = fit(with_val, rows(32), val, max_epochs=3, **BASE)
    fit(without, rows(32), max_epochs=3, **BASE)
    assert same(with_val, without)
    exact = small(noise=0.0)
    result = fit(exact, rows(32), val, max_epochs=1, **BASE)
    with torch.no_grad():
        expected = sum(float(t.mean()) for t in exact.losses(next(val.batches(19)), None).values())
    assert result.metrics["val/loss"] == pytest.approx(expected, rel=1e-5)


def test_the_order_of_validation_rows_makes_no_negatives_of_neighbours(
    digits: cp.data.Dataset,
) -> None:
    """Copies of a row that stand beside each other are no more often in one batch than
    copies that stand apart; there they would be negatives that nothing tells from what
    is sought."""
    losses, networks = [], cp.NetworkOptions(width=4, hidden=(32,), norm="batch")
    for copies in (np.repeat(np.arange(64), 4), np.tile(np.arange(64), 4)):
        torch.manual_seed(0)
        method = cp.IDMVAE.for_data(
            digits, shared_dim=8, private_dim=4, networks=networks, temperature=0.1
        )
        metrics = method.fit(
            digits.train_split,
            digits.val.take(copies),
            max_epochs=4,
            val_every=4,
            **{**BASE, "batch_size": 16},
        ).metrics
        losses.append(metrics["val/cross_mi"])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_watcher_sees_every_validation_and_may_end_the_run() -> None:
    seen: list[float] = []

    def watch(means: Any) -> None:
        seen.append(means["val/loss"])
        if len(seen) == 3:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        fit(small(), rows(32), rows(16, 1), max_epochs=5, watch=watch, **BASE)
    history = fit(small(), rows(32), rows(16, 1), max_epochs=3, **BASE).history["val/loss"]
    assert seen == [value for value in history if not math.isnan(value)]


def test_torch_s_generator_is_as_before() -> None:
    method = small()
    before = torch.get_rng_state()
    fit(method, rows(16), max_steps=2, **BASE)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_seed_decides() -> None:
    one, again, other = small(), small(), small()
    torch.manual_seed(5)
    fit(one, rows(32), max_steps=3, seed=3, **BASE)
    fit(again, rows(32), max_steps=3, seed=3, **BASE)
    fit(other, rows(32), max_steps=3, seed=4, **BASE)
    assert same(one, again) and not same(one, other)


@pytest.mark.parametrize("ema", [0.8, 0.3])
def test_ema_is_the_average_of_the_weights(ema: float) -> None:
    """By the n-th new weights it forgets (1 + n) / (10 + n) of the old ones until that
    is the decay asked for, here 0.3 from n = 3 on."""
    weights = []

    class Watched(Small):
        def losses(self, batch: Batch, step: int | None = None) -> dict[str, Tensor]:
            weights.append(self.nets["a"][0].weight.detach().clone())
            return super().losses(batch, step)

    torch.manual_seed(1)
    method = Watched()
    fit(method, rows(32), max_steps=6, ema_decay=ema, **BASE)
    plain = small()
    fit(plain, rows(32), max_steps=6, **BASE)
    after = [*weights[1:], plain.nets["a"][0].weight]
    average = after[0]
    for n, w in enumerate(after[1:], 1):
        average = torch.lerp(w, average, min(ema, (1 + n) / (10 + n)))
    torch.testing.assert_close(method.nets["a"][0].weight, average)


@pytest.mark.parametrize("ema", [None, 0.5])
def test_best_weights_give_the_best_validation_loss(tmp_path: Path, ema: float | None) -> None:
    method, val = small(noise=0.0), rows(16, seed=1)
    train = Split(
        {k: v + 9 for k, v in rows(16).x.items()}, MODALITIES
    )  # so far from val that learning it spoils val
    result = fit(
        method,
        train,
        val,
        out=tmp_path / "r",
        max_epochs=4,
        keep="best",
        ema_decay=ema,
        **{**BASE, "lr": 0.1},
    )
    assert result.best is not None and result.best < result.metrics["val/loss"]
    with torch.no_grad():
        loss = sum(float(t.mean()) for t in method.losses(next(val.batches(16)), None).values())
    assert loss == pytest.approx(result.best, rel=1e-4)
    stored = torch.load(tmp_path / "r" / "checkpoints" / "best.ckpt", weights_only=True)
    assert stored["val/loss"] == result.best and torch.equal(
        stored["state_dict"]["nets.a.0.weight"], method.nets["a"][0].weight
    )


def test_a_last_batch_of_one_row_is_left_out() -> None:
    assert (
        fit(small(), rows(17), rows(9, seed=1), max_epochs=1, **BASE).steps == 2
    )  # Small refuses a batch of one
    assert fit(small(), rows(18), max_epochs=1, **BASE).steps == 3
    assert fit(small(), rows(3), max_epochs=1, **BASE).steps == 1


@pytest.mark.parametrize(
    ("precision", "native", "computed", "shown"),
    [
        ("bf16-mixed", True, torch.bfloat16, "bf16-mixed"),
        ("bf16-mixed", False, torch.bfloat16, "bf16-mixed (emulated here: slow)"),
        ("auto", True, torch.bfloat16, "bf16-mixed"),
        ("auto", False, torch.float32, "32-true"),
    ],
)
def test_bf16_and_channels_last(
    precision: str,
    native: bool,
    computed: torch.dtype,
    shown: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Image(Small):
        name = "image"

        def __init__(self) -> None:
            super().__init__()
            del self.nets
            self.net = nn.Conv2d(3, 3, 3, padding=1)
            self.seen: set[tuple[bool, torch.dtype]] = set()

        def losses(self, batch: Batch, step: int | None = None) -> dict[str, Tensor]:
            y = self.net(batch.x["image"])
            self.seen.add(
                (self.net.weight.is_contiguous(memory_format=torch.channels_last), y.dtype)
            )
            return {"rec": (y - batch.x["image"]).square().flatten(1).sum(1)}

    for module in ("run", "progress"):
        monkeypatch.setattr(f"counterpoint.training.{module}.computes_bf16", lambda _: native)
    images = np.random.default_rng(0).integers(0, 255, size=(16, 3, 8, 8), dtype=np.uint8)
    method = Image()
    fit(
        method,
        Split({"image": images}, (Modality("image", (3, 8, 8)),)),
        max_steps=2,
        precision=precision,
        channels_last=True,
        **{**BASE, "progress": True},
    )
    assert method.seen == {(True, computed)}
    assert f"cpu × 1, {shown}\n" in capsys.readouterr().err
    assert method.net.weight.is_contiguous() and method.net.weight.dtype == torch.float32


def test_compile_asks_the_method_first() -> None:
    class Compiled(Small):
        called = 0

        def compiled_losses(self) -> Losses:
            self.called += 1
            return self.losses

    method = Compiled()
    fit(method, rows(16), max_steps=1, compile=True, **BASE)
    assert method.called == 1


def test_cooldown_lowers_the_rate_linearly_to_zero(tmp_path: Path) -> None:
    """Adam's steps under a constant gradient are the learning rate itself. A run that
    goes on without a cooldown has its whole rate again."""

    class Slope(Small):
        def losses(self, batch: Batch, step: int | None = None) -> dict[str, Tensor]:
            seen.append(float(self.nets["a"][0].bias[0].detach()))
            return {
                "slope": torch.stack([p.sum() for p in self.parameters()]).sum()
                * torch.ones(len(batch))
            }

    seen: list[float] = []
    method = Slope()
    fit(method, rows(64), out=tmp_path / "r", max_steps=6, cooldown=4, **BASE)
    fit(method, rows(64), out=tmp_path / "r", max_steps=8, resume=True, **BASE)
    steps = -np.diff([*seen, float(method.nets["a"][0].bias[0].detach())])
    np.testing.assert_allclose(
        steps, BASE["lr"] * np.array([1, 1, 1, 0.75, 0.5, 0.25, 1, 1]), rtol=1e-3
    )


def test_activation_checkpointing_gives_the_same_weights() -> None:
    data = cp.data.load("digits-quadrant", pairings=1).train.take(np.arange(16))
    methods, calls = [], []
    for activation_checkpointing in (False, True):
        torch.manual_seed(0)
        methods.append(
            MMVAE(data.modalities, shared_dim=4, estimator="dreg", samples=3, decoder_batch_size=20)
        )
        calls.append(0)
        for decoder in methods[-1].model.decoders.values():
            decoder.network.register_forward_pre_hook(lambda *_: calls.append(calls.pop() + 1))
        fit(
            methods[-1],
            data,
            max_steps=2,
            activation_checkpointing=activation_checkpointing,
            **BASE,
        )
    assert calls[1] == 2 * calls[0] > 0
    with pytest.raises(
        ValueError, match="activation_checkpointing is for methods with a Model, and small has none"
    ):
        fit(small(), rows(16), max_steps=1, activation_checkpointing=True, **BASE)
    for (name, one), two in zip(
        methods[0].state_dict().items(), methods[1].state_dict().values(), strict=True
    ):
        torch.testing.assert_close(two, one, msg=name)


def test_accumulated_gradients_count_as_one_step() -> None:
    assert fit(small(), rows(32), max_epochs=2, accumulate_grad_batches=2, **BASE).steps == 4


def test_callbacks_and_tensorboard_are_passed_on(tmp_path: Path) -> None:
    from pytorch_lightning.callbacks import EarlyStopping

    stop = EarlyStopping("val/loss", patience=1, min_delta=1e9)
    result = fit(
        small(),
        rows(16),
        rows(8),
        out=tmp_path / "r",
        callbacks=[stop],
        max_epochs=9,
        **{**BASE, "loggers": ("tensorboard",)},
    )
    assert result.steps == 2 * 3 - 2  # the first sets the mark, the second does not beat it
    assert list((tmp_path / "r" / "tensorboard").glob("events*"))
    assert yaml.safe_load((tmp_path / "r" / "config.yaml").read_text())["fit"]["trainer"][
        "callbacks"
    ] == ["pytorch_lightning.callbacks.early_stopping.EarlyStopping"]


def test_summary_lines_and_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit(small(), rows(16), max_steps=2, **BASE)
    assert capfd.readouterr() == ("", "")
    fit(small(), rows(16), max_steps=2, **{**BASE, "progress": True})
    out, err = capfd.readouterr()
    assert out == "" and [line.split(":")[0].split(";")[0] for line in err.splitlines()] == [
        "small",
        "2 steps",
    ]


# --- how it fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 1}, "batch_size 1 must be 2 or more"),
        ({"lr": -1.0}, "lr -1.0 must be positive"),
        ({"lr": math.nan}, "lr=nan must be a finite number"),
        ({"cooldown": 5, "max_steps": 4}, "cooldown 5 counts the last steps before max_steps 4"),
        ({"ema_decay": 1.0}, "ema_decay 1.0 must lie between 0 and 1"),
        ({"max_epochs": -1}, "never end"),
        ({"max_steps": 0}, "max_steps 0 must be 1 or more"),
        ({"keep": "best"}, "needs val"),
        ({"keep": "worst"}, "'last' or 'best'"),
        ({"resume": True}, "needs out"),
        ({"gradient_clip_val": 1.0}, "use clip"),
        ({"trainer": {"max_epochs": 3}}, "use the option of that name"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        fit(small(), rows(16), **{**BASE, **options})
    assert "\n" not in str(caught.value)


def test_unknown_options_and_too_few_rows_are_named() -> None:
    with pytest.raises(TypeError, match="unknown option 'epochs'"):
        fit(small(), rows(16), epochs=3, **BASE)
    with pytest.raises(ValueError, match="train has 1 row"):
        fit(small(), rows(1), **BASE)


def test_a_term_that_is_not_finite_ends_the_run_by_name(tmp_path: Path) -> None:
    method = small(bad_step=7)
    with pytest.raises(NonFiniteLoss, match=r"'rec_b' is nan in step 7") as caught:
        fit(method, rows(32), out=tmp_path / "r", checkpoint_seconds=0, max_epochs=5, **BASE)
    assert (caught.value.term, caught.value.step) == ("rec_b", 7)
    assert all(torch.isfinite(v).all() for v in method.state_dict().values())
    kept = torch.load(tmp_path / "r" / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 7 and not (tmp_path / "r" / "model").exists()


def test_a_full_disk_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r"
    fit(small(), rows(32), out=out, max_steps=3, **BASE)
    last = out / "checkpoints" / "last.ckpt"
    before, fsync = last.read_bytes(), os.fsync

    def full(number: int) -> None:
        if "last.ckpt" in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(28, "No space left on device")
        fsync(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        OSError,
        match=r"cannot write .*last\.ckpt: No space left on device; what was there is intact",
    ) as caught:
        fit(small(), rows(32), out=out, resume=True, max_steps=6, **BASE)
    assert "\n" not in str(caught.value)
    assert last.read_bytes() == before and [p.name for p in last.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", "cut", "other"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: bytes | str) -> None:
    out = tmp_path / "r"
    fit(small(), rows(32), out=out, max_steps=3, **BASE)
    last = out / "checkpoints" / "last.ckpt"
    if damage == "other":
        torch.save({"x": torch.zeros(1)}, last)
    else:
        last.write_bytes(last.read_bytes()[:-3000] if isinstance(damage, str) else damage)
    with pytest.raises(
        ValueError, match=r"last\.ckpt is not a readable checkpoint .*delete it"
    ) as caught:
        fit(small(), rows(32), out=out, resume=True, max_steps=6, **BASE)
    assert "\n" not in str(caught.value)


def test_a_folder_is_not_overwritten_nor_resumed_as_something_else(tmp_path: Path) -> None:
    out = tmp_path / "r"
    fit(small(), rows(32), out=out, max_steps=3, **BASE)
    with pytest.raises(ValueError, match="already holds a run; pass resume=True"):
        fit(small(), rows(32), out=out, max_steps=3, **BASE)
    with pytest.raises(ValueError, match=r"fit\.lr was 0\.01 and is now 0\.1"):
        fit(small(), rows(32), out=out, resume=True, **{**BASE, "lr": 0.1})
    with pytest.raises(ValueError, match=r"method\.config\.noise was 0\.5 and is now 0\.1"):
        fit(small(noise=0.1), rows(32), out=out, resume=True, **BASE)
    with pytest.raises(ValueError, match=r"rows\.train was 32 and is now 40"):
        fit(small(), rows(40), out=out, resume=True, **BASE)
    (out / "config.yaml").write_text("{")
    with pytest.raises(ValueError, match="cannot be read as YAML"):
        fit(small(), rows(32), out=out, resume=True, **BASE)


def test_a_run_from_before_an_option_was_there_goes_on(tmp_path: Path) -> None:
    """An option that config.yaml does not know was off: it may be so now, and nothing
    else."""
    out = tmp_path / "r"
    fit(small(), rows(32), out=out, max_steps=3, **BASE)
    off, on = ({"source": "digits-quadrant", "skip_bad": bad} for bad in (False, True))
    (out / "config.yaml").write_text(
        (out / "config.yaml").read_text().replace("data: {}", "data: {source: digits-quadrant}")
    )
    with pytest.raises(ValueError, match=r"data\.skip_bad was 'not set' and is now True"):
        fit(small(), rows(32), out=out, resume=True, describe=on, **{**BASE, "max_steps": 6})
    assert (
        fit(small(), rows(32), out=out, resume=True, describe=off, **{**BASE, "max_steps": 6}).steps
        == 6
    )


def logged(history: dict[str, list[float]], name: str) -> dict[float, float]:
    """By step, what the regular lines of training say; a run that was cut short adds a
    line for the rest."""
    lines = zip(history["step"], history["train/loss"], history[name], strict=True)
    return {step: value for step, loss, value in lines if not math.isnan(loss) and step % 3 == 0}


# --- going on --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ema", [None, 0.7])
@pytest.mark.parametrize(
    "first", [2, 4, 5, 8, 11]
)  # within a pass, at its end, after it, at the end of the second, in the third
def test_a_resumed_run_is_bitwise_the_same(tmp_path: Path, ema: float | None, first: int) -> None:
    whole, part, rest = small(), small(), small(noise=0.5)
    data, val = rows(32), rows(10, seed=1)
    options = {**BASE, "ema_decay": ema, "log_every": 3}
    uninterrupted = fit(whole, data, val, out=tmp_path / "whole", max_epochs=3, **options)
    fit(part, data, val, out=tmp_path / "r", max_epochs=3, max_steps=first, **options)
    nn.init.zeros_(rest.nets["a"][0].weight)  # what it starts from must not matter
    resumed = fit(rest, data, val, out=tmp_path / "r", resume=True, max_epochs=3, **options)
    assert same(whole, rest) and resumed.steps == 12
    if first != 11:
        assert not same(whole, part)
    for name in ("train/loss", "epoch"):
        assert logged(resumed.history, name) == logged(uninterrupted.history, name)
    assert (
        resumed.metrics["val/loss"] == uninterrupted.metrics["val/loss"]
        and resumed.best == uninterrupted.best
    )


def test_resuming_what_is_over_changes_nothing_and_a_longer_run_goes_on(tmp_path: Path) -> None:
    whole, other, over = small(), small(), small()
    fit(whole, rows(32), max_epochs=3, ema_decay=0.7, **BASE)
    first = fit(other, rows(32), out=tmp_path / "r", max_epochs=2, ema_decay=0.7, **BASE)
    again = fit(
        over, rows(32), out=tmp_path / "r", resume=True, max_epochs=2, ema_decay=0.7, **BASE
    )
    assert same(other, over) and again.steps == first.steps and again.history == first.history
    fit(other, rows(32), out=tmp_path / "r", resume=True, max_epochs=3, ema_decay=0.7, **BASE)
    assert same(whole, other)


def test_resuming_where_nothing_is_saved_begins(tmp_path: Path) -> None:
    a, b = small(), small()
    fit(a, rows(32), max_steps=3, **BASE)
    fit(b, rows(32), out=tmp_path / "r", resume=True, max_steps=3, **BASE)
    assert same(a, b)


def test_a_real_method_goes_on_bitwise(tmp_path: Path, digits: cp.data.Dataset) -> None:
    data, val = digits.train.take(slice(0, 48)), digits.val.take(slice(0, 16))
    options = {**BASE, "batch_size": 16, "max_epochs": 2, "lr": 1e-3, "ema_decay": 0.5}

    def method() -> cp.Method:
        torch.manual_seed(1)
        return cp.IDMVAE.for_data(
            digits, shared_dim=4, private_dim=4, networks=cp.NetworkOptions(width=4, hidden=(16,))
        )

    whole, part, rest = method(), method(), method()
    fit(whole, data, val, **options)
    fit(part, data, val, out=tmp_path / "r", max_steps=2, **options)
    fit(rest, data, val, out=tmp_path / "r", resume=True, **options)
    assert same(whole, rest) and not same(whole, part)
    assert same(cp.load(tmp_path / "r" / "model"), whole)


def test_processor_time_counts_all_parts_and_no_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by a second whenever it is read. The first steps end at 2,
    3, 4 and 5 seconds, those after the validation, whose second is left out, at 7, 8, 9
    and 10."""
    seconds = itertools.count()
    monkeypatch.setattr("time.process_time", lambda: float(next(seconds)))
    options = {"out": tmp_path / "r", "max_cpu_minutes": 10 / 60, **BASE}
    assert fit(small(), rows(32), rows(16, seed=1), **options).steps == 8
    assert fit(small(), rows(32), rows(16, seed=1), **options, resume=True).steps == 8
    longer = {**options, "max_cpu_minutes": 15 / 60}
    assert 9 <= fit(small(), rows(32), rows(16, seed=1), **longer, resume=True).steps <= 12


def test_max_time_counts_all_parts(tmp_path: Path) -> None:
    method = small(slow=0.05)
    first = fit(
        method, rows(800), out=tmp_path / "r", max_epochs=-1, max_time="00:00:00:01", **BASE
    )
    assert 1 <= first.steps <= 21
    again = fit(
        method,
        rows(800),
        out=tmp_path / "r",
        resume=True,
        max_epochs=-1,
        max_time="00:00:00:01",
        **BASE,
    )
    assert again.steps == first.steps
    assert (
        fit(
            method,
            rows(800),
            out=tmp_path / "r",
            resume=True,
            max_epochs=-1,
            max_steps=first.steps + 1,
            **BASE,
        ).steps
        == first.steps + 1
    )


class Signalled(Small):
    """Gets a signal in a training step, or while it is validated."""

    def __init__(self, number: int, step: int, validating: bool = False) -> None:
        super().__init__()
        self.signal = (number, step, validating)
        self.taken = 0

    def losses(self, batch: Batch, step: int | None) -> dict[str, Tensor]:
        if (self.taken if step is None else step, not self.training) == self.signal[1:]:
            signal.raise_signal(self.signal[0])
        self.taken = self.taken if step is None else step + 1
        return super().losses(batch, step)


@pytest.mark.parametrize(
    ("number", "ends"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
@pytest.mark.parametrize(
    ("step", "validating", "saved"), [(5, False, 6), (7, False, 8), (8, True, 8)]
)
def test_a_signal_saves_and_says_how_to_go_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: int,
    ends: type[BaseException],
    step: int,
    validating: bool,
    saved: int,
) -> None:
    torch.manual_seed(1)
    with pytest.raises(ends) as caught:
        fit(
            Signalled(number, step, validating),
            rows(32),
            rows(20, seed=1),
            out=tmp_path / "r",
            max_epochs=4,
            **BASE,
        )
    assert ends is KeyboardInterrupt or caught.value.code == 143
    name = signal.Signals(number).name
    assert (
        f"stopped by {name} after {saved} steps, which are saved; go on with resume=True, or: counterpoint"
        in capsys.readouterr().err
    )
    assert (
        torch.load(tmp_path / "r" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
        == saved
    )
    with pytest.raises(ends):
        fit(
            Signalled(number, step, validating),
            rows(32),
            rows(20, seed=1),
            out=tmp_path / "own",
            again="mine --resume",
            max_epochs=4,
            **BASE,
        )
    assert "go on with resume=True, or: mine --resume\n" in capsys.readouterr().err
    rest, whole = small(), small()
    fit(rest, rows(32), rows(20, seed=1), out=tmp_path / "r", resume=True, max_epochs=4, **BASE)
    fit(whole, rows(32), max_epochs=4, **BASE)
    assert same(rest, whole)


def test_a_signal_without_a_folder_says_that_nothing_is_saved(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(Signalled(signal.SIGINT, 1), rows(32), **BASE)
    assert "stopped by SIGINT after 2 steps; nothing is saved" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_was_stopped_goes_on_bitwise(tmp_path: Path, how: signal.Signals) -> None:
    out = tmp_path / "r"
    options = {**BASE, "checkpoint_seconds": 0.2, "ema_decay": 0.7, "max_epochs": 40}

    def train() -> None:
        fit(small(slow=0.1), rows(32), rows(10, seed=1), out=out, **options)
        print("finished")

    run, last = Fork(train, tmp_path), out / "checkpoints" / "last.ckpt"
    wait_for(last, run)
    run.send_signal(how)
    said, complained = finished(run)
    assert "finished" not in said
    assert run.returncode == {signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}[how]
    stopped_at = torch.load(last, weights_only=True)["global_step"]
    assert 0 < stopped_at < 160
    if how == signal.SIGTERM:
        assert (
            f"stopped by SIGTERM after {stopped_at} steps" in complained
            and "Traceback" not in complained
        )
    rest, whole = small(), small()
    fit(rest, rows(32), rows(10, seed=1), out=out, resume=True, **options)
    fit(whole, rows(32), rows(10, seed=1), **options)
    assert same(rest, whole)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two processes, which keep whole weights (in ``whole``) and then share
    them out (in ``shared``): of a loss without noise, and of one with noise that goes
    through or is stopped."""
    folder = tmp_path_factory.mktemp("processes")
    options = {**BASE, "devices": 2, "batch_size": 4, "max_epochs": 3}

    def train() -> None:
        out = folder / "whole"
        fit(small(noise=0.0), rows(32), rows(12, seed=1), out=out / "two", **options)
        fit(small(), rows(32), out=out / "whole", **options)
        fit(small(), rows(32), out=out / "part", max_steps=5, **options)
        fit(small(), rows(32), out=out / "part", resume=True, **options)

        options["strategy"], out = "fsdp", folder / "shared"
        fit(
            small(noise=0.0),
            rows(32),
            rows(12, seed=1),
            out=out / "two",
            keep="best",
            clip=0.5,
            **options,
        )
        fit(small(), rows(32), out=out / "whole", **options)
        fit(small(), rows(32), out=out / "part", max_steps=5, **options)
        rest = small()
        nn.init.zeros_(rest.nets["a"][0].weight)  # type: ignore[index,arg-type]
        fit(rest, rows(32), out=out / "part", resume=True, **options)
        torch.save(rest.state_dict(), out / f"rank{os.environ['LOCAL_RANK']}.pt")

    ranks(train, folder)
    return folder


@pytest.mark.slow
def test_two_processes_do_what_one_does(of_two: Path) -> None:
    """The same rows in each step, so the same gradient, for a loss without noise; and a
    stopped run goes on bitwise."""
    folder = of_two / "whole"
    one = small(noise=0.0)
    result = fit(one, rows(32), rows(12, seed=1), max_epochs=3, **BASE)
    weights = {
        name: torch.load(folder / name / "model" / "weights.pt", weights_only=True)
        for name in ("two", "part", "whole")
    }
    for name, value in one.state_dict().items():
        torch.testing.assert_close(weights["two"][name], value, rtol=1e-4, atol=1e-5)
    assert all(
        torch.equal(weights["part"][name], value) for name, value in weights["whole"].items()
    )
    history = History(folder / "two" / "metrics.csv")
    history.rewind(12)
    assert history.latest()["val/loss"] == pytest.approx(result.metrics["val/loss"], rel=1e-4)


@pytest.mark.slow
def test_shared_out_weights_train_as_whole_ones(of_two: Path) -> None:
    """``fsdp`` on two processes takes the steps of one, keeps whole weights in its
    files, and a stopped run goes on bitwise."""
    folder = of_two / "shared"
    one = small(noise=0.0)
    result = fit(one, rows(32), rows(12, seed=1), max_epochs=3, clip=0.5, **BASE)
    weights = {
        name: torch.load(folder / name / "model" / "weights.pt", weights_only=True)
        for name in ("two", "part", "whole")
    }
    assert result.best == result.metrics["val/loss"]  # so that the best weights are the last
    for name, value in one.state_dict().items():
        torch.testing.assert_close(weights["two"][name], value, rtol=1e-4, atol=1e-5)
    assert all(
        torch.equal(weights["part"][name], value) for name, value in weights["whole"].items()
    )
    for rank in range(2):  # the method itself has them, in every process
        state = torch.load(folder / f"rank{rank}.pt", weights_only=True)
        assert all(
            torch.equal(state[name], value)
            for name, value in weights["part"].items()
            if "running" not in name
        )
    kept = torch.load(folder / "part" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (
        kept["state_dict"]["method.nets.a.0.weight"].shape == (5, 6) and kept["global_step"] == 12
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"strategy": "fsdp", "ema_decay": 0.9},
            "ema_decay keeps whole weights, which strategy='fsdp' shares out",
        ),
        ({"strategy": "fsdp", "channels_last": True}, "channels_last lays weights out anew"),
        ({"strategy": "fsdp_cpu_offload"}, "leaves no whole weights; use 'fsdp'"),
    ],
)
def test_options_that_shared_out_weights_refuse(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(small(), rows(16), **{**BASE, **options})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"RANK": "0", "SLURM_PROCID": "3"}, True),  # torchrun, started by srun
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),  # Lightning's own, within a batch job
        ({"SLURM_PROCID": "2"}, False),
        ({"NODE_RANK": "1"}, False),
    ],
)
def test_who_writes_the_files(
    environment: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_PROCID", "NODE_RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert leads() is expected


# --- parts -----------------------------------------------------------------------------------------------------------


def test_history_survives_a_cut_line_and_new_columns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    history = History(path)
    history.add({"step": 1, "a": 0.5})
    history.add({"step": 2, "b": 1.5})
    history.add({"step": 3, "a": 2.5})
    with path.open("a") as file:
        file.write("4,1")
    again = History(path)
    again.rewind(2)
    assert again.rows == [{"step": 1, "a": 0.5}, {"step": 2, "b": 1.5}]
    assert path.read_text().splitlines() == ["step,a,b", "1,0.5,", "2,,1.5"]
    assert again.latest() == {"step": 2, "a": 0.5, "b": 1.5}


def test_write_replaces_whole_files(tmp_path: Path) -> None:
    write(tmp_path / "f", b"one")
    write(tmp_path / "f", b"two")
    assert (tmp_path / "f").read_bytes() == b"two" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(OSError, match="cannot write"):
        write(tmp_path / "missing" / "f", b"")


def test_importing_training_does_not_import_lightning() -> None:
    code = "import sys, counterpoint.training; print('pytorch_lightning' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


def test_a_run_that_is_over_does_not_go_on(tmp_path: Path) -> None:
    """Resuming at or beyond the limit takes no step, even where nothing else would end
    the run."""
    method = small()
    fit(method, rows(32), max_steps=5, max_epochs=-1, out=tmp_path, **BASE)
    done = {k: v.clone() for k, v in method.state_dict().items()}
    for limit in (5, 3):
        again = small()
        result = fit(
            again, rows(32), max_steps=limit, max_epochs=-1, out=tmp_path, resume=True, **BASE
        )
        assert result.steps == 5
        assert all(torch.equal(done[k], v) for k, v in again.state_dict().items())


def test_resuming_forgets_what_was_measured_before(tmp_path: Path) -> None:
    fit(small(), rows(32), max_steps=2, out=tmp_path, **BASE)
    measured = [
        tmp_path / name for name in ("evaluation.json", "evaluation-partial.json", "report.html")
    ]
    for path in measured:
        path.write_text("{}")
    fit(small(), rows(32), max_steps=4, out=tmp_path, resume=True, **BASE)
    assert not any(path.exists() for path in measured)


def test_an_option_that_lightning_refuses_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Lightning's Trainer refuses"):
        fit(small(), rows(32), max_steps=1, max_time="soon", **BASE)


@pytest.mark.parametrize(("count", "batches"), [(21, 2), (22, 3), (24, 3), (17, 2)])
def test_processes_get_equally_many_rows(count: int, batches: int) -> None:
    """Two processes of 4 rows each; a rest that they cannot share evenly, or that
    leaves one of them a single row, is left out."""
    from counterpoint.training.loaders import Loaders

    sizes = []
    for rank in range(2):
        data = Loaders(rows(count), None, FitOptions(batch_size=4))
        data.trainer = SimpleNamespace(
            world_size=2, global_rank=rank, strategy=SimpleNamespace(root_device="cpu")
        )  # type: ignore[assignment]
        data.setup("fit")
        sizes.append([len(part) for part in data.loader])
    assert sizes[0] == sizes[1] and len(sizes[0]) == batches and min(sizes[0]) >= 2


def test_processes_validate_together_on_one_order_that_no_seed_changes() -> None:
    from counterpoint.training.loaders import Loaders

    def passes(rank: int, world: int, size: int, seed: int) -> list[list[list[float]]]:
        data = Loaders(rows(40), rows(19), FitOptions(batch_size=size, seed=seed))
        data.trainer = SimpleNamespace(
            world_size=world, global_rank=rank, strategy=SimpleNamespace(root_device="cpu")
        )  # type: ignore[assignment]
        data.setup("fit")
        loader = data.val_dataloader()
        return [[sorted(parcel.batch.x["a"][:, 0].tolist()) for parcel in loader] for _ in range(2)]

    alone, (one, two) = passes(0, 1, 8, 0), (passes(rank, 2, 4, 1) for rank in range(2))
    assert alone[0] == alone[1] and sum(map(len, alone[0])) == 19
    assert [sorted(a + b) for a, b in zip(one[0], two[0], strict=True)] == alone[0][
        :2
    ]  # a rest of three is no batch for two
    assert alone[0][0] != sorted(rows(19).x["a"][:8, 0].tolist())


def test_too_few_rows_for_even_shares_are_refused() -> None:
    from counterpoint.training.loaders import Loaders

    data = Loaders(rows(7), None, FitOptions(batch_size=4))
    data.trainer = SimpleNamespace(
        world_size=2, global_rank=0, strategy=SimpleNamespace(root_device="cpu")
    )  # type: ignore[assignment]
    with pytest.raises(
        ValueError,
        match="train: the 7 rows do not fill one batch of 4 × 2 processes; lower batch_size",
    ):
        data.setup("fit")
