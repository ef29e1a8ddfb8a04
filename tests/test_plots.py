"""``method.plot`` and ``evaluation.plot``: what is drawn is what the method says."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from counterpoint import DMVAE, MVAE, Batch, Modality
from counterpoint.data import Dataset, Split
from counterpoint.figures import colouring, default_colours
from counterpoint.figures.style import CLASSES, FAINT, PRIVATE, SHARED
from counterpoint.metrics import Evaluation, Score

IMAGE = Modality("photo", (1, 4, 4), "laplace", 1.0)
GENES = Modality("genes", (6,), "normal", 1.0, features=tuple("abcdef"))
COVARIATES = ("site=n", "site=s", "age")


def split(rows: int = 24) -> Split:
    rng = np.random.default_rng(0)
    site = np.arange(rows) % 2
    return Split(
        {
            "photo": rng.integers(0, 256, (rows, 1, 4, 4)).astype(np.uint8),
            "genes": rng.normal(size=(rows, 6)).astype(np.float32),
        },
        (IMAGE, GENES),
        present={"photo": np.arange(rows) >= 4},
        shared_labels={"digit": np.arange(rows) % 3},
        private_labels={"place": {"photo": np.arange(rows) % 4}},
        covariates=np.stack([site == 0, site == 1, np.linspace(-1, 1, rows)], 1),
        covariate_names=COVARIATES,
    )


@pytest.fixture(scope="module")
def method() -> DMVAE:
    torch.manual_seed(0)
    return DMVAE([IMAGE, GENES], shared_dim=3, private_dim=2)


def colours_of(figure: Figure, panel: int) -> list[str]:
    return [to_hex(c) for c in figure.axes[panel].collections[0].get_facecolor()]


def test_a_data_set_stands_for_its_test_split(method: DMVAE) -> None:
    train, test = split(30), split()
    drawn = method.plot.latents(Dataset("toy", (IMAGE, GENES), train, train, test), colours=[])
    assert len(drawn.axes[0].collections[0].get_offsets()) == len(test) == 24


def test_maps_show_every_latent_and_private_ones_only_of_rows_that_have_them(
    method: DMVAE,
) -> None:
    drawn = method.plot.latents(split())
    counts = [len(axes.collections[0].get_offsets()) for axes in drawn.axes]
    assert counts == [24, 24, 20, 20, 24, 24]  # z, w of photo, w of genes; by digit and place
    assert [axes.get_ylabel() for axes in drawn.axes[::2]] == ["z", "w of photo", "w of genes"]
    digit = np.arange(24) % 3
    assert colours_of(drawn, 0) == [CLASSES[value] for value in digit]
    assert colours_of(drawn, 2) == [CLASSES[value] for value in digit[4:]]
    assert {*colours_of(drawn, 5)} == {FAINT}  # genes have no place
    assert default_colours(split()) == ("digit", "place")


def test_points_of_a_map_are_the_posterior_means(method: DMVAE) -> None:
    """Two dimensions lose nothing, so that distances are those of the means."""
    data = split()
    drawn = method.plot.latents(data, colours=[]).axes[2].collections[0].get_offsets()
    means = method.encode(data.batch(slice(None))).private["genes"][0].numpy()
    want = np.linalg.norm(means[:, None] - means[None], axis=-1)
    got = np.linalg.norm(np.asarray(drawn)[:, None] - np.asarray(drawn)[None], axis=-1)
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_covariates_colour_maps_as_classes_or_on_a_gradient() -> None:
    data, rows = split(), np.array([0, 1, 5, 23])
    site = colouring(data, "site", rows, None)
    assert site.values.tolist() == [0, 1, 1, 1] and site.classes == ("n", "s")
    age = colouring(data, "age", rows, "genes")
    shades = np.asarray(age.colours())[:, :3].sum(1)
    assert (np.diff(shades) > 0).all()  # cividis grows lighter
    with pytest.raises(ValueError, match="'sex'; choose from digit, place, site, age"):
        colouring(data, "sex", rows, None)


def test_umap_that_is_not_installed_names_its_extra(
    method: DMVAE, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'counterpoint\[umap\]'"):
        method.plot.latents(split(), how="umap")


# umap needs no Tensorflow, and numba can't cache code that it does not optimise.
@pytest.mark.filterwarnings("ignore:Tensorflow not installed:ImportWarning")
@pytest.mark.filterwarnings("ignore:Cannot cache compiled function")
@pytest.mark.filterwarnings("ignore:n_jobs value 1 overridden")
def test_a_map_by_umap_differs_from_the_plane(method: DMVAE) -> None:
    if not find_spec("umap"):
        pytest.skip("needs umap-learn")
    plane, manifold = (
        np.asarray(
            method.plot.latents(split(), how=how, colours=[]).axes[0].collections[0].get_offsets()
        )
        for how in ("pca", "umap")
    )
    assert plane.shape == manifold.shape and not np.allclose(plane, manifold, atol=0.1)


def test_recombination_decodes_z_of_rows_down_and_w_of_rows_across(method: DMVAE) -> None:
    batch = split().batch(slice(4, 7))
    canvas = np.asarray(method.plot.recombination(batch).axes[0].images[0].get_array())
    made = method.recombine(batch[torch.tensor([2])], batch[torch.tensor([1])])["photo"][0, 0]
    side, gap = 4, 1
    top, left = (4 * gap + step * (side + gap) for step in (3, 2))
    grey = (made.clamp(0, 1).numpy() * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(canvas[top : top + side, left : left + side, 0], grey)
    truth = (batch.x["photo"][2, 0].numpy() * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(canvas[top : top + side, :side, 0], truth)


def test_a_traversal_draws_what_is_decoded_and_the_features_that_move(method: DMVAE) -> None:
    batch = split().batch(slice(6, 8))
    drawn = method.plot.traversal(batch, coordinate=1, span=(-2.0, 2.0), steps=5, row=1, features=2)
    latents = method.encode(batch[1:2])
    z = latents.shared.expand(1, 5, -1).clone()
    z[..., 1] = torch.linspace(-2, 2, 5)
    private = {name: w.expand(1, 5, -1) for name, w in latents.private.items()}
    made = method.decode(replace(latents, shared=z, private=private))["genes"][0].numpy()
    widest = np.argsort(-np.ptp(made, axis=0))[:2]
    photo, genes = drawn.axes
    assert [line.get_label() for line in genes.lines] == ["abcdef"[i] for i in widest]
    for line, i in zip(genes.lines, widest, strict=True):
        np.testing.assert_allclose(line.get_xdata(), [-2, -1, 0, 1, 2])
        np.testing.assert_allclose(line.get_ydata(), made[:, i], rtol=1e-6)
    assert len(photo.images) == 1 and photo.get_title("left") == "photo"


def test_a_private_latent_moves_its_own_modality_alone(method: DMVAE) -> None:
    drawn = method.plot.traversal(split(), latent="w_genes", coordinate=1, features=9)
    assert [axes.get_title("left") for axes in drawn.axes] == ["genes"]
    assert len(drawn.axes[0].lines) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"latent": "w_sound"}, "no latent 'w_sound'; this model has z, w_photo, w_genes"),
        ({"coordinate": 3}, "coordinate 3 of 'z' is outside 0 to 2"),
        ({"span": (1.0, 1.0)}, "must rise"),
        ({"row": 24}, "row 24 is outside 0 to 23"),
        ({"latent": "w_photo", "row": 0}, "the example lacks 'photo'"),
    ],
)
def test_a_traversal_refuses_what_it_can_not_draw(
    method: DMVAE, wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        method.plot.traversal(split(), **wrong)  # type: ignore[arg-type]


def test_translations_stand_beside_the_truth(method: DMVAE) -> None:
    batch = split().batch(slice(4, 6))
    drawn = method.plot.translations(batch, given="genes").axes[0]
    assert [text.get_text() for text in drawn.texts] == ["genes", "photo", "→ photo"]
    canvas = np.asarray(drawn.images[0].get_array())
    side = 32  # of a bar code; pixels of photos are enlarged to it
    truth, made = (canvas[:side:8, left : left + side : 8, 0] for left in (34, 68))
    generator = torch.Generator().manual_seed(0)
    output = method.translate(batch.only(["genes"]), to=["photo"], generator=generator)["photo"]
    for tile, values in ((truth, batch.x["photo"][0, 0]), (made, output[0, 0, 0])):
        want = (values.clamp(0, 1).numpy() * 255).round().astype(np.uint8)
        np.testing.assert_array_equal(tile, want)
    with pytest.raises(ValueError, match="unknown modality 'sound'; choose one of photo, genes"):
        method.plot.translations(batch, given="sound")


def test_plots_say_what_is_missing(method: DMVAE) -> None:
    never = split().batch(slice(0, 3))
    with pytest.raises(ValueError, match="no row has every modality"):
        method.plot.translations(never)
    with pytest.raises(ValueError, match="no private latent for 'photo'"):
        MVAE([IMAGE, GENES]).plot.recombination(split())
    with pytest.raises(TypeError, match="got list; give a data set, a split or a batch"):
        method.plot.recombination([1])  # type: ignore[arg-type]


def test_plots_take_arrays_and_leave_the_generator_alone(method: DMVAE) -> None:
    arrays = {name: values for name, values in split().batch(slice(4, 9)).x.items()}
    before = torch.get_rng_state()
    first = method.plot.translations(arrays).axes[0].images[0].get_array()
    again = method.plot.translations(Batch.of(arrays, modalities=[IMAGE, GENES]))
    np.testing.assert_array_equal(first, again.axes[0].images[0].get_array())
    assert torch.equal(before, torch.get_rng_state())


def test_an_evaluation_draws_values_intervals_and_chance() -> None:
    digit = Score(
        group="probe",
        kind="probe",
        latent="z",
        label="digit",
        value=0.75,
        interval=(0.7, 0.8),
        chance=0.1,
    )
    fid = Score(group="quality", kind="fid", value=12.5, std=2.0, seeds=3)
    one = Score(group="quality", kind="fid", target="photo", value=99.0)
    probe, quality = Evaluation((digit, fid, one)).plot().axes
    assert [probe.get_title("left"), quality.get_title("left")] == ["probe", "fid"]
    assert [bar.get_width() for bar in probe.patches] == [0.75]
    assert [bar.get_width() for bar in quality.patches] == [12.5]  # the mean stands for its parts
    interval, chance, _ = probe.lines
    assert [*interval.get_xdata()] == [0.7, 0.8] and [*chance.get_xdata()] == [0.1, 0.1]
    assert [*quality.lines[0].get_xdata()] == [10.5, 14.5]
    assert [tick.get_text() for tick in probe.get_yticklabels()] == ["probe/z/digit 0.750"]
    with pytest.raises(ValueError, match="no finite score"):
        Evaluation(()).plot()


# Machado, Oliveira & Fernandes, "A physiologically-based model for simulation of color
# vision deficiency", 2009, https://doi.org/10.1109/TVCG.2009.113: severity 1.
BLINDNESS = {
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}


def lab(colour: str, kind: str | None) -> np.ndarray:
    """CIELAB of a colour as it is seen, D65."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    if kind is not None:
        linear = np.clip(np.array(BLINDNESS[kind]) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("kind", [None, *BLINDNESS])
def test_colours_stay_apart_without_full_colour_vision(kind: str | None) -> None:
    """CIELAB distances; about 2.3 are just noticeable."""
    pairs = [*combinations(CLASSES, 2), (SHARED, PRIVATE)]
    distances = [np.linalg.norm(lab(a, kind) - lab(b, kind)) for a, b in pairs]
    assert min(distances) > 9 and distances[-1] > 40
