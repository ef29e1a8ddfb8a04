"""Images as the latents of a frozen autoencoder: a tiny one with random weights."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import counterpoint as cp
from counterpoint import figures
from counterpoint.cli import main
from counterpoint.core.modality import Modality
from counterpoint.data import Autoencoder, Dataset, latents, load
from counterpoint.model.denoising import DenoiserOptions, Denoising
from counterpoint.model.likelihoods import likelihood

SCALE = 5.0
"""Gives the latents of the random images below a standard deviation of about 1."""

WEIGHTS = "diffusion_pytorch_model.safetensors"
NETWORKS = cp.NetworkOptions(width=4, hidden=(16,))
LATENT = Modality("image", (4, 4, 4), "normal", None, unbounded=True)


def saved(folder: Path, **options: Any) -> Any:
    """An AutoencoderKL of random weights that shrinks images fourfold, saved there."""
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 8),
        norm_num_groups=2,
        **{"scaling_factor": SCALE, **options},
    )
    network.save_pretrained(folder)
    return network.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("autoencoder")
    saved(place)
    return place


@pytest.fixture(scope="module")
def network(folder: Path) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(
        folder, local_files_only=True, low_cpu_mem_usage=False
    ).eval()


def arrays(rows: int = 50) -> dict[str, Any]:
    """Images that some rows lack, words, and labels of both kinds."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (rows, 3, 16, 16), dtype=np.uint8),
        "words": rng.integers(0, 6, (rows, 4)),
        "present/image": np.arange(rows) % 5 > 0,
        "label/kind": np.array(["wren", "robin"])[np.arange(rows) % 2],
        "label/place/image": np.arange(rows) % 3,
    }


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load(arrays())


@pytest.fixture(scope="module")
def encoded(data: Dataset, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load(
        latents(data, folder, tmp_path_factory.mktemp("latents") / "made", progress=False),
        verify=True,
    )


def means(network: Any, images: np.ndarray) -> torch.Tensor:
    with torch.no_grad():
        return network.encode(
            2 * torch.from_numpy(np.array(images)).float() / 255 - 1
        ).latent_dist.mean


def test_latents_are_the_autoencoder_s_means_scaled(
    data: Dataset, encoded: Dataset, network: Any
) -> None:
    assert encoded.modalities == (LATENT, data.modalities[1]) and encoded.name == "mapping-latents"
    for part, split in encoded.splits().items():
        before = data.splits()[part]
        here = before.present["image"]
        assert isinstance(split.x["image"], np.memmap)
        expected = means(network, before.x["image"][here]) * SCALE
        torch.testing.assert_close(
            torch.from_numpy(np.array(split.x["image"][here])), expected, rtol=1e-4, atol=1e-5
        )
        assert not split.x["image"][~here].any() and 0 < here.sum() < len(here)


def test_all_else_carries_over(data: Dataset, encoded: Dataset, folder: Path) -> None:
    for part, split in encoded.splits().items():
        before = data.splits()[part]
        for name in ("image", "words"):
            np.testing.assert_array_equal(split.present[name], before.present[name])
        np.testing.assert_array_equal(split.x["words"], before.x["words"])
        np.testing.assert_array_equal(split.shared_labels["kind"], before.shared_labels["kind"])
        np.testing.assert_array_equal(
            split.private_labels["place"]["image"], before.private_labels["place"]["image"]
        )
    assert encoded.notes["label/kind"] == "robin, wren"
    about = encoded.notes["latents/image"]
    assert (
        about.startswith("of images 3×16×16; autoencoder ")
        and f"scaling_factor {SCALE}" in about
        and str(folder) not in about
    )
    assert Autoencoder(folder).record["autoencoder"] in about


def test_covariates_carry_over_as_they_are(folder: Path, tmp_path: Path) -> None:
    before = load(
        {
            **arrays(),
            "covariate/camera": np.arange(50) % 2,
            "covariate/hour": np.linspace(0, 24, 50),
        }
    )
    after = load(latents(before, folder, tmp_path / "made", progress=False), verify=True)
    assert after.covariate_names == before.covariate_names == ("camera=0", "camera=1", "hour")
    assert (
        after.modalities[0].covariates == after.covariate_names
        and after.notes["covariate/hour"] == before.notes["covariate/hour"]
    )
    for part, split in after.splits().items():
        np.testing.assert_array_equal(split.covariates, before.splits()[part].covariates)


def test_decoding_is_the_autoencoder_s(folder: Path, network: Any, data: Dataset) -> None:
    """In batches and with leading axes, what the network itself makes of its means."""
    images = data.train.x["image"][:40]
    autoencoder = Autoencoder(folder)
    with torch.no_grad():
        expected = (network.decode(means(network, images)).sample / 2 + 0.5).clamp(0, 1)
    found = autoencoder.decode(
        autoencoder.encode(torch.from_numpy(images).float() / 255).view(2, 20, 4, 4, 4)
    )
    assert found.shape == (2, 20, 3, 16, 16) and float(found.std()) > 0.01
    torch.testing.assert_close(found.flatten(0, 1), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"shift_factor": 0.3},
        {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [0.5, 1.0, 2.0, 4.0]},
    ],
    ids=["shift", "statistics"],
)
def test_latents_are_shifted_as_the_autoencoder_says(
    options: dict[str, Any], tmp_path: Path, data: Dataset
) -> None:
    network = saved(tmp_path, **options)
    autoencoder, images = Autoencoder(tmp_path), data.train.x["image"][:4]
    center = torch.tensor(options.get("latents_mean", [0.3] * 4)).view(-1, 1, 1)
    spread = torch.tensor(options.get("latents_std", [1.0] * 4)).view(-1, 1, 1)
    z = autoencoder.encode(torch.from_numpy(images).float() / 255)
    torch.testing.assert_close(
        z, (means(network, images) - center) * SCALE / spread, rtol=1e-4, atol=1e-4
    )
    with torch.no_grad():
        expected = (network.decode(means(network, images)).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(autoencoder.decode(z), expected, rtol=1e-3, atol=1e-4)


def test_weights_of_older_names_are_read(folder: Path, tmp_path: Path, data: Dataset) -> None:
    """Published autoencoders have them; unread, they would be random."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(folder / WEIGHTS)
    for new, old in older.items():
        state = {key.replace(new, old): value for key, value in state.items()}
    assert any("query" in key for key in state)
    save_file(state, tmp_path / WEIGHTS)
    images = torch.from_numpy(data.train.x["image"][:4]).float() / 255
    assert torch.equal(Autoencoder(tmp_path).encode(images), Autoencoder(folder).encode(images))


def test_latents_far_from_unit_variance_are_warned_of(data: Dataset, tmp_path: Path) -> None:
    saved(tmp_path / "autoencoder", scaling_factor=SCALE / 100)
    with pytest.warns(
        UserWarning,
        match=r"deviation of 0\.0\d+, and diffusion expects about 1; scaling_factor \d\.\d+ in",
    ) as caught:
        latents(data, tmp_path / "autoencoder", tmp_path / "a", progress=False)
    mended = float(str(caught[0].message).split("scaling_factor ")[1].split()[0])
    saved(tmp_path / "autoencoder", scaling_factor=mended)
    train = load(latents(data, tmp_path / "autoencoder", tmp_path / "b", progress=False)).train
    assert float(train.x["image"][train.present["image"]].std()) == pytest.approx(1, abs=0.01)


def test_diffusion_of_latents_learns_and_is_unbounded(encoded: Dataset) -> None:
    """Diff-MVAE noises latents as they are: what it generates leaves [0, 1] on both
    sides, as they do."""
    torch.manual_seed(0)
    method = cp.DiffMVAE.for_data(
        encoded,
        shared_dim=3,
        networks=NETWORKS,
        denoiser=DenoiserOptions(width=8, solver_steps=5),
        score=False,
    )
    reads = method.model.likelihood("image")
    assert isinstance(reads, Denoising)
    before = [p.clone() for p in reads.parameters()]
    method.fit(encoded.train, max_steps=3, batch_size=8, progress=False)
    assert all(not torch.equal(a, b) for a, b in zip(before, reads.parameters(), strict=True))
    drawn = method.sample(16, generator=torch.Generator().manual_seed(0))["image"]
    assert drawn.shape == (16, 4, 4, 4) and float(drawn.min()) < -0.5 and float(drawn.max()) > 1.5


def test_the_surrogate_of_latents_is_the_error_of_their_own_noise() -> None:
    """With a network that always says nought and predicts x, the loss is E‖x‖² of the
    latents themselves, not of 2x − 1."""
    torch.manual_seed(0)
    reads = Denoising(LATENT, 2, DenoiserOptions(width=8, prediction_type="x0"))
    for weight in reads.network.last[-1].parameters():  # type: ignore[union-attr,index]
        torch.nn.init.zeros_(weight)
    x = 3 * torch.randn(5, 4, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(
            -reads.log_prob(torch.randn(1, 5, 2), x)[0], x.square().flatten(1).sum(1)
        )


def test_means_of_unbounded_images_are_no_sigmoids() -> None:
    raw = torch.randn(1, 2, 4, 4, 4) * 5
    assert torch.equal(likelihood(LATENT).mean(raw), raw)
    assert torch.equal(likelihood(replace(LATENT, unbounded=False)).mean(raw), torch.sigmoid(raw))


def test_unbounded_images_are_inferred_and_refuse_what_reads_none() -> None:
    rng = np.random.default_rng(0)
    inferred = load(
        {
            "map": rng.normal(size=(9, 4, 8, 8)),
            "image": rng.random((9, 3, 8, 8)),
            "vector": rng.normal(size=(9, 2)),
        }
    ).modalities
    assert [(m.unbounded, m.unit) for m in inferred] == [
        (True, False),
        (False, True),
        (False, False),
    ]
    with pytest.raises(
        ValueError,
        match=r"'map': only images of a normal or Laplace likelihood can be unbounded, got .* and 'bernoulli'",
    ):
        load({"map": rng.normal(size=(9, 4, 8, 8))}, likelihood="bernoulli")
    with pytest.raises(
        ValueError, match=r"can be unbounded, got shape \(4,\) and 'normal'; leave it out"
    ):
        Modality("vector", (4,), "normal", unbounded=True)


def test_checksums_tell_unbounded_images_apart() -> None:
    x = {"map": np.random.default_rng(0).random((9, 4, 8, 8), np.float32)}
    sums = {
        load(x, modalities=[Modality("map", (4, 8, 8), "normal", None, unbounded=u)]).checksum()
        for u in (False, True)
    }
    assert len(sums) == 2
    (plain,) = load(x).modalities
    assert plain.identity() == {
        "name": "map",
        "shape": (4, 8, 8),
        "likelihood": "laplace",
        "scale": 0.75,
        "weight": 1.0,
        "classes": None,
    }


def test_words_are_kept_and_change_no_checksum(
    data: Dataset, encoded: Dataset, folder: Path, tmp_path: Path
) -> None:
    modalities = (data.modalities[0], replace(data.modalities[1], words=tuple("abcdef")))
    parts = {part: replace(split, modalities=modalities) for part, split in data.splits().items()}
    told = replace(data, modalities=modalities, **parts)
    made = load(latents(told, folder, tmp_path / "made", progress=False))
    assert made.modalities[1].words == tuple("abcdef") and encoded.modalities[1].words == ()
    assert told.checksum() == data.checksum() and made.checksum() == encoded.checksum()


def test_pictures_of_unbounded_images_span_their_values() -> None:
    """The darkest and the lightest of the values, not 0 and 1, which would clip most of
    them."""
    values = torch.linspace(-3, 5, 64).view(1, 1, 8, 8)
    (tile,) = figures.tiles(values, replace(LATENT, shape=(1, 8, 8)))
    assert not isinstance(tile, str)
    assert tile.min() == 0 and tile.max() == 255 and len(np.unique(tile)) > 55
    (tile,) = figures.tiles(values, replace(LATENT, shape=(1, 8, 8)), span=(-13.0, 15.0))
    assert not isinstance(tile, str)
    assert abs(int(tile.min()) - 255 * 10 / 28) < 1 and abs(int(tile.max()) - 255 * 18 / 28) < 1


def test_without_diffusers_the_extra_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        ModuleNotFoundError,
        match=r"this needs diffusers, which is not installed; run: pip install 'counterpoint\[diffusion\]'",
    ):
        Autoencoder(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda p: shutil.rmtree(p),
            "no folder .*; an autoencoder is a folder with .*, and none is downloaded",
        ),
        (
            lambda p: (p / "config.json").unlink(),
            "holds no config.json; an autoencoder is a folder with",
        ),
        (
            lambda p: (p / WEIGHTS).rename(p / "diffusion_pytorch_model.bin"),
            "; pickled weights are not read: save it again with safe_ser",
        ),
        (
            lambda p: (p / "config.json").write_text('{"_class_name": "VQModel"}'),
            "holds VQModel, expected AutoencoderKL",
        ),
        (lambda p: (p / "config.json").write_text("{"), "config.json is no configuration"),
        (lambda p: (p / "config.json").write_text("[]"), "config.json is no configuration"),
        (lambda p: (p / WEIGHTS).write_bytes(b"not"), "holds no autoencoder that can be read"),
        (
            lambda p: (p / f"{WEIGHTS}.index.json").write_text("{}"),
            "holds weights in several files; save it again in one",
        ),
        (
            lambda p: save_file(
                {k: v for k, v in load_file(p / WEIGHTS).items() if k != "encoder.conv_in.bias"},
                p / WEIGHTS,
            ),
            "does not fit its config.json: encoder.conv_in.bias is missing",
        ),
    ],
    ids=[
        "gone",
        "no config",
        "pickled",
        "another kind",
        "no JSON",
        "no mapping",
        "no weights",
        "pieces",
        "a weight lacks",
    ],
)
def test_what_is_no_autoencoder_is_refused_in_one_line(
    spoil: Any, message: str, folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "spoilt"
    shutil.copytree(folder, place)
    spoil(place)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        Autoencoder(place)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_encoded_is_refused_and_leaves_nothing(
    data: Dataset, encoded: Dataset, folder: Path, tmp_path: Path
) -> None:
    def refused(source: Dataset, message: str, **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            latents(source, folder, tmp_path / "out", progress=False, **options)
        assert list(tmp_path.iterdir()) == []

    refused(
        data,
        "'words' is no modality of images in \\[0, 1\\]; modality must be one of image",
        modality="words",
    )
    refused(encoded, "'mapping-latents' holds no images in \\[0, 1\\]")
    two = {"a": np.zeros((9, 3, 8, 8), np.uint8), "b": np.zeros((9, 3, 8, 8), np.uint8)}
    refused(load(two), "which images to encode is not said; modality must be one of a, b")
    for shape in ((1, 16, 16), (3, 18, 16)):
        refused(
            load({"a": np.zeros((9, *shape), np.uint8)}),
            "reads images of 3 channels and sides that 4 divides, got shape",
        )
    with pytest.raises(ValueError, match=r"latents of 4 channels, got values of shape \(3, 4, 4\)"):
        Autoencoder(folder).decode(torch.zeros(2, 3, 4, 4))
    broken = load(arrays() | {"image": np.full((50, 3, 16, 16), 0.5, np.float32)})
    broken.val.x["image"] = broken.val.x["image"][:, :, :, :15]  # an error in the midst of writing
    with pytest.raises(ValueError, match="sides that 4 divides"):
        latents(broken, folder, tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        latents(data, folder, tmp_path / "full", progress=False)
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_the_command_line_encodes_trains_and_decodes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "mine.npz", **arrays())
    out, run = tmp_path / "encoded", tmp_path / "run"
    assert (
        main(
            [
                "data",
                "latents",
                f"{tmp_path}/mine.npz",
                "--seed",
                "3",
                "--autoencoder",
                str(folder),
                "--out",
                str(out),
            ]
        )
        == 0
    )
    np.testing.assert_array_equal(
        load(out).train.x["words"], load(tmp_path / "mine.npz", seed=3).train.x["words"]
    )
    tiny = [
        "--networks.width",
        "4",
        "--networks.hidden",
        "[16]",
        "--shared_dim",
        "3",
        "--denoiser.width",
        "8",
        "--denoiser.solver_steps",
        "3",
    ]
    quick = [
        "--max_steps",
        "2",
        "--batch_size",
        "8",
        "--fit.progress",
        "false",
        "--loggers",
        "[]",
    ]
    assert main(["fit", "diff-mvae", "--data", str(out), *tiny, *quick, "--out", str(run)]) == 0
    decode = ["--autoencoder", str(folder)]
    for words, shape in ((decode, (5, 3, 16, 16)), ([], (5, 4, 4, 4))):
        assert main(["sample", str(run), "--n", "5", "--out", f"{tmp_path}/s.npz", *words]) == 0
        assert np.load(tmp_path / "s.npz")["image"].shape == shape
    assert main(["sample", str(run), "--n", "2", "--out", f"{tmp_path}/s.png", *decode]) == 0
    pixels = arrays()["image"][1]
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "bird.png")
    np.save(
        tmp_path / "bird.npy",
        Autoencoder(folder).encode(torch.from_numpy(pixels)[None].float() / 255).numpy(),
    )
    given = [
        [
            "--given",
            f"image={tmp_path}/bird.{kind}",
            "--to",
            "words",
            "image",
            "--out",
            f"{tmp_path}/t-{kind}.npz",
        ]
        for kind in ("png", "npy")
    ]
    for words in given:
        assert main(["translate", str(run), *words, *decode]) == 0
    from_png, from_npy = (np.load(tmp_path / f"t-{kind}.npz") for kind in ("png", "npy"))
    assert from_png["image"].shape == (1, 3, 16, 16) and from_png["words"].shape == (1, 4)
    np.testing.assert_allclose(from_png["image"], from_npy["image"], atol=1e-5)
    capsys.readouterr()
    assert main(["translate", str(run), *given[0]]) == 2
    assert "cannot read 'image' from" in capsys.readouterr().err
    assert json.loads((out / "manifest.json").read_text())["parameters"]["image_shape"] == [
        3,
        16,
        16,
    ]


def test_the_command_line_refuses_an_autoencoder_of_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cp.MVAE([Modality("image", (3, 16, 16))], shared_dim=2, networks=NETWORKS).save_pretrained(
        tmp_path / "run"
    )
    for words, message in (
        (
            [
                "sample",
                f"{tmp_path}/run",
                "--out",
                f"{tmp_path}/s.npz",
                "--autoencoder",
                str(folder),
            ],
            "the run knows no latents of images",
        ),
        (
            [
                "data",
                "latents",
                "digits-quadrant",
                "--autoencoder",
                f"{tmp_path}/no",
                "--out",
                f"{tmp_path}/o",
            ],
            "which images to encode is not said",
        ),
        (["data", "latents", "digits-quadrant"], "autoencoder"),
    ):
        assert main(words) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and message in err, err
