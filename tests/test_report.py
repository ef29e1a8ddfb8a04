"""The report and its figures, on a method whose every output is known."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian
from scipy.stats import chi2
from torch import Tensor, nn

from counterpoint import figures
from counterpoint.core.batch import Batch
from counterpoint.core.latents import Latents
from counterpoint.core.modality import Modality
from counterpoint.data import Dataset, Split
from counterpoint.figures.plane import _level, _log_posterior
from counterpoint.methods import JNF
from counterpoint.metrics import Evaluation, Score
from counterpoint.report import write_report
from counterpoint.report.published import QUADRANT

IMAGE = Modality("photo", (3, 6, 6))
VECTOR = Modality("genes", (40,), "normal", None)
TEXT = Modality("caption", (5,), "categorical", classes=7)


@dataclass
class FakeModel:
    private_dims: dict[str, int]
    shared_dim: int = 4


class Echo(nn.Module):
    """A method without training: z and w are the first values of a modality, and it
    decodes what it was given, or zeros."""

    name: ClassVar[str] = "echo <b>"
    additions = ()

    def __init__(self, modalities: Sequence[Modality], private: bool = True) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.config: dict[str, Any] = {"private": private}
        self.model = FakeModel({m.name: 3 for m in modalities} if private else {})
        self.priors: tuple[str, ...] = ("standard",)
        self.weight = nn.Parameter(torch.zeros(1))

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def _made(self, name: str, batch: Batch | None, rows: int) -> Tensor:
        m = next(m for m in self.modalities if m.name == name)
        values = torch.zeros(rows, *m.shape) if batch is None else batch.x[name]
        return nn.functional.one_hot(values.long(), m.classes).float() if m.classes else values

    def encode(self, batch: Batch, given: Sequence[str] | None = None) -> Latents:
        chosen = list(given or batch.x)
        z = batch.x[chosen[0]].flatten(1)[:, :4].float()
        return Latents(
            z[None],
            {
                n: batch.x[n].flatten(1)[None, :, 1:4].float()
                for n in chosen
                if n in self.model.private_dims
            },
        )

    def reconstruct(self, batch: Batch, generator: Any = None) -> dict[str, Tensor]:
        return {m.name: self._made(m.name, batch, len(batch)) for m in self.modalities}

    def translate(
        self,
        x: Batch,
        to: Sequence[str],
        n: int = 1,
        prior: str = "auto",
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        return {
            name: self._made(name, x, len(x))[None].expand(
                n, *[-1] * (2 + len(x.x[name].shape[1:]) - 1), *[-1] * (name == "caption")
            )
            for name in to
        }

    def sample(
        self, n: int, prior: str = "auto", generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        return {m.name: self._made(m.name, None, n) for m in self.modalities}

    def recombine(self, shared: Batch, private: Batch, generator: Any = None) -> dict[str, Tensor]:
        return self.reconstruct(private)


def split(modalities: Sequence[Modality], rows: int = 40, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    x: dict[str, np.ndarray] = {}
    for m in modalities:
        if m.classes:
            x[m.name] = rng.integers(0, m.classes, (rows, *m.shape))
        else:
            x[m.name] = (
                (rng.random((rows, *m.shape)) * 255).astype(np.uint8)
                if len(m.shape) == 3
                else rng.normal(size=(rows, *m.shape)).astype("f4")
            )
    private = {"quadrant": {m.name: rng.integers(0, 4, rows) for m in modalities}}
    return Split(x, tuple(modalities), {}, {"digit": np.arange(rows) % 10}, private)


def dataset(modalities: Sequence[Modality]) -> Dataset:
    train, val, test = (split(modalities, seed=s) for s in range(3))
    return Dataset(
        "three & kinds", tuple(modalities), train, val, test, {"backgrounds": "none <i>at all</i>"}
    )


def probed(latent: str, label: str, value: float, chance: float, **spread: Any) -> Score:
    return Score(
        group="probe",
        kind="probe",
        latent=latent,
        label=label,
        value=value,
        chance=chance,
        **spread,
    )


coherent = partial(Score, group="coherence", kind="coherence", label="digit")
posterior = partial(Score, group="posterior", setting="given")
everything = partial(Score, group="refinement", setting="all")
one = partial(Score, group="refinement", setting="given", size=1)
translated = {"given": ("caption",), "target": "photo"}

SCORES: tuple[Score, ...] = (
    probed("z", "digit", 0.875, 0.1),
    probed("w", "quadrant", 0.75, 0.25, std=0.125, seeds=3),
    probed("z", "quadrant", 0.25, 0.25),
    probed("w", "digit", 0.125, 0.1),
    coherent(setting="self", value=0.9, chance=0.1),
    coherent(setting="cross", value=0.8, chance=0.1),
    coherent(setting="cross", target="photo", value=0.7, chance=0.1),
    coherent(setting="given", size=1, value=0.8, chance=0.1),
    coherent(setting="given", size=2, value=0.85, chance=0.1),
    coherent(setting="unconditional", value=0.5, chance=0.01),
    coherent(setting="unconditional", prior="standard", value=0.5, chance=0.01),
    Score(group="quality", kind="fid", target="photo", value=12.34),
    Score(group="quality", kind="precision", target="photo", value=0.6),
    Score(group="match", kind="match", value=0.7, chance=0.5),
    Score(group="match", kind="match", value=0.7125, chance=0.5, **translated),
    Score(group="match", kind="match", setting="unconditional", value=0.4, chance=0.5),
    Score(
        group="match", kind="match", setting="unconditional", value=0.3, chance=0.5, **translated
    ),
    Score(group="match", kind="judge/match", value=0.9375, chance=0.5),
    Score(group="match", kind="judge/match", value=0.9375, chance=0.5, **translated),
    Score(group="retrieval", kind="retrieval", value=0.8125, **translated),
    Score(group="retrieval", kind="retrieval@10", value=0.1875, **translated),
    Score(group="coherence", kind="f1", setting="given", size=2, value=0.6),
    Score(
        group="coherence",
        kind="f1",
        setting="given",
        size=2,
        given=("photo", "caption"),
        target="genes",
        value=0.6125,
        chance=0.2875,
    ),
    Score(group="quality", kind="fid", setting="given", size=1, value=23.45, **translated),
    posterior(kind="posterior/kl", size=1, value=17.25),
    posterior(kind="posterior/kl", size=1, given=("photo",), value=18.5),
    posterior(kind="posterior/kl", size=2, value=4.5),
    posterior(kind="posterior/rhat", size=2, value=1.012),
    posterior(kind="posterior/cosine", size=1, value=0.625),
    posterior(kind="posterior/cosine", size=1, given=("photo",), value=0.5),
    everything(kind="refinement/elbo", step=0, value=-20.0),
    everything(kind="refinement/elbo", step=1, value=-15.0, std=1.0, seeds=2),
    everything(kind="refinement/elbo", step=2, value=-12.0),
    everything(kind="refinement/ascent", value=-10.0),
    one(kind="refinement/elbo", step=0, value=-8.0),
    one(kind="refinement/elbo", step=0, given=("photo",), value=-9.0),
    one(kind="refinement/elbo", step=1, value=-7.0),
    one(kind="refinement/ascent", value=-6.5),
)


class Page(HTMLParser):
    """What a browser would see: text, links, and every address that would be fetched."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.fetched, self.anchors, self.ids = "", [], [], []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "xlink:href", "srcset", "data") or (
                name == "href" and tag in ("link", "use", "image")
            ):
                self.fetched.append(value or "")
            if name == "href" and tag == "a":
                self.anchors.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    (folder / "metrics.csv").write_text(
        "epoch,step,train/loss,val/loss,train/elbo\n0,1,5.0,,4.0\n0,2,4.0,4.5,3.0\n1,3,3.0,4.0,\n"
    )
    method, data = Echo([IMAGE, VECTOR, TEXT]), dataset([IMAGE, VECTOR, TEXT])
    return write_report(
        method,  # type: ignore[arg-type]
        data,
        Evaluation(SCORES, {"seed": 0}),
        folder / "metrics.csv",
        folder / "deep" / "report.html",
        commands=["counterpoint fit echo --out 'a b'"],
        maps=("pca", "tsne"),
    )


def test_report_is_one_file_that_fetches_nothing(written: Path) -> None:
    page = Page(written.read_text())
    assert page.fetched
    assert [
        address[:40]
        for address in page.fetched
        if not address.startswith(("data:image/png;base64,", "#"))
    ] == []
    assert "@import" not in written.read_text() and "<script" not in written.read_text()
    assert [p.name for p in written.parent.iterdir()] == ["report.html"]


def test_report_ids_are_unique_and_links_inside_lead_somewhere(written: Path) -> None:
    page = Page(written.read_text())
    assert len(page.ids) == len(set(page.ids))
    assert {a[1:] for a in page.anchors if a.startswith("#")} <= set(page.ids)
    assert {a[1:] for a in page.fetched if a.startswith("#")} <= set(page.ids)


def test_report_says_what_was_measured(written: Path) -> None:
    text = " ".join(Page(written.read_text()).text.split())
    assert (
        "reads the digit from z 88 % of the time (chance 10 %), and the quadrant from w 75 % of the time (chance 25 %)"
        in text
    )
    assert (
        "the quadrant from z 25 % of the time (chance 25 %), and the digit from w 12 % of the time"
        in text
    )
    assert ".750 ± .125" in text and "12.3" in text
    assert (
        "modalitygivenmatch ↑match of real pairsretrieval of two ↑among ten ↑F1 ↑Fréchet distance ↓"
        in text
    )
    assert (
        "photonothing–––––12.3 photocaption.713.938.812.188–23.4 genesnothing––––.287– genesphoto, caption––––.613–"
        in text
    )
    assert "from 2 modalities" in text and "unconditional: all judges agree, standard prior" in text


def test_report_says_when_it_rests_on_the_validation_split(written: Path, tmp_path: Path) -> None:
    assert "Measured on the validation split." not in written.read_text()
    page = write_report(
        Echo([IMAGE]),
        dataset([IMAGE]),
        Evaluation((), {"split": "val"}),
        None,
        tmp_path / "r.html",
        maps=("pca",),
    )  # type: ignore[arg-type]
    assert "Measured on the validation split." in page.read_text()


def test_report_marks_published_figures_as_another_data_set(written: Path) -> None:
    text = " ".join(Page(written.read_text()).text.split())
    assert "Not the same data." in text and "IDMVAE + diffusion prior" in text and ".983" in text


def test_report_escapes_what_it_did_not_write(written: Path) -> None:
    html = written.read_text()
    assert (
        "none &lt;i&gt;at all&lt;/i&gt;" in html
        and "three &amp; kinds" in html
        and "echo &lt;b&gt;" in html
    )
    assert "<i>at all" not in html and "echo <b>" not in html


def test_report_shows_every_coherence_once(written: Path) -> None:
    html = written.read_text()
    table = html[html.index('id="coherence"') : html.index("Published coherence")]
    assert re.findall(r'<td class="value">(\S+?)<', table) == [".900", ".800", ".850", ".500"]


def test_report_shows_posteriors_by_what_is_given(written: Path) -> None:
    html = written.read_text()
    assert (
        '<th scope="col">KL to everything ↓</th><th scope="col">cosine to everything ↑</th><th scope="col">R-hat ↓</th>'
        in html
    )
    assert "1 modality</td><td>17.2</td><td>.625</td><td>–</td>" in html
    assert "2 modalities</td><td>4.500</td><td>–</td><td>1.012</td>" in html


def test_report_shows_refinement_where_it_was_measured(written: Path, tmp_path: Path) -> None:
    html = written.read_text()
    figure = html[html.index('aria-label="Refinement"') :]
    figure = figure[: figure.index("</figure>")]
    assert (
        "given everything" in figure
        and "given one modality" in figure
        and "where gradient ascent ends" in figure
    )
    without = tuple(score for score in SCORES if score.group != "refinement")
    page = write_report(
        Echo([IMAGE]),
        dataset([IMAGE]),
        Evaluation(without),
        None,
        tmp_path / "r.html",
        maps=("pca",),
    )  # type: ignore[arg-type]
    assert "Refinement" not in page.read_text()


def test_published_table_is_the_papers() -> None:
    assert QUADRANT.rows["IDMVAE"] == (0.983, 0.999, 0.271, 0.162)
    assert QUADRANT.rows["MMVAE+"] == (0.382, 0.999, 0.355, 0.341)
    assert QUADRANT.covers({"digit", "quadrant", "colour"}) and not QUADRANT.covers({"digit"})


def test_report_on_the_published_data_does_not_call_it_another(tmp_path: Path) -> None:
    data = replace(dataset([IMAGE, replace(IMAGE, name="other")]), name="polymnist-quadrant")
    path = write_report(
        Echo(data.modalities), data, Evaluation(SCORES), None, tmp_path / "r.html", maps=()
    )  # type: ignore[arg-type]
    assert (
        "Not the same data" not in path.read_text()
        and "Published on the same data set" in path.read_text()
    )


def test_report_without_labels_private_latents_or_history(tmp_path: Path) -> None:
    plain = [
        replace(s, shared_labels={}, private_labels={}) for s in dataset([VECTOR]).splits().values()
    ]
    data = Dataset("plain", (VECTOR,), *plain)
    text = write_report(
        Echo([VECTOR], private=False),
        data,
        Evaluation(()),
        None,
        tmp_path / "r.html",
        maps=("pca",),
    ).read_text()  # type: ignore[arg-type]
    assert (
        "Beside published figures" not in text
        and 'id="training"' not in text
        and "Recombination" not in text
    )
    assert "PCA of the latents" in text


def test_report_of_rows_that_all_lack_something_shows_what_can_be_shown(tmp_path: Path) -> None:
    half = {"photo": np.arange(40) < 20, "genes": np.arange(40) >= 20}
    data = dataset([IMAGE, VECTOR])
    data = replace(data, test=replace(data.test, present=half))
    text = write_report(
        Echo([IMAGE, VECTOR]), data, Evaluation(()), None, tmp_path / "r.html", maps=("pca",)
    ).read_text()  # type: ignore[arg-type]
    assert (
        "Unconditional samples" in text
        and "Cross generation" not in text
        and "PCA of the latents" in text
    )


def test_report_refuses_other_data_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the method knows the modalities genes, the data photo"):
        write_report(Echo([VECTOR]), dataset([IMAGE]), Evaluation(()), None, tmp_path / "r.html")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------- figures


def test_tiles_of_images_keep_every_pixel() -> None:
    image = torch.zeros(1, 3, 2, 2)
    image[0, 0, 0, 1], image[0, 2, 1, 0] = 1.0, 2.0
    (tile,) = figures.tiles(image, replace(IMAGE, shape=(3, 2, 2)))
    assert tile.tolist() == [[[0, 0, 0], [255, 0, 0]], [[0, 0, 255], [0, 0, 0]]]  # type: ignore[union-attr]


def test_tiles_of_text_take_the_likeliest_word() -> None:
    ids = torch.tensor([[1, 6, 0, 2, 2]])
    assert (
        figures.tiles(ids, TEXT)
        == figures.tiles(nn.functional.one_hot(ids, 7) * 0.9, TEXT)
        == ["1 6 0 2 2"]
    )
    assert figures.tiles(ids, replace(TEXT, words=tuple("·abcdef"))) == ["af·bb"]
    assert figures.tiles(ids, replace(TEXT, words=("", "a", "b", "c", "d", "e", "bird"))) == [
        "a bird b b"
    ]


def test_text_is_cut_to_its_tile_and_dollars_are_no_formulas() -> None:
    drawn = figures.mosaic([["x" * 30, "one two three four", "$ a_b $", ""]]).axes[0].texts
    assert [text.get_text() for text in drawn] == [
        "x" * 12 + "\n" + "x" * 12 + "\n" + "x" * 6,
        "one two\nthree four",
        "$ a_b $",
        "",
    ]
    assert not any(text.get_parse_math() for text in drawn)
    (long,) = figures.mosaic([["word " * 40]]).axes[0].texts
    assert long.get_text().split("\n") == ["word word"] * 4 + ["…"]


def test_tiles_of_vectors_share_the_given_span() -> None:
    low, high = figures.tiles(torch.tensor([[0.0] * 40, [1.0] * 40]), VECTOR, span=(0.0, 1.0))
    assert isinstance(low, np.ndarray) and isinstance(high, np.ndarray)
    assert (
        low.shape == (32, 40, 3) and low.max() < 100 and high[..., 0].min() > 200
    )  # cividis: dark blue to yellow
    assert figures.tiles(torch.rand(1, 1000), replace(VECTOR, shape=(1000,)))[0].shape == (
        32,
        64,
        3,
    )  # type: ignore[union-attr]


def test_refinement_draws_the_bounds_and_where_ascent_ends() -> None:
    left, right = figures.refinement(
        {"a": [1.0, 2.0, 2.5], "b": [0.0, 1.0]}, {"a": 3.0, "b": 2.0}
    ).axes
    steps, ascent = left.lines
    np.testing.assert_array_equal(steps.get_xydata(), [[0, 1.0], [1, 2.0], [2, 2.5]])
    assert ascent.get_linestyle() == "--" and [*ascent.get_ydata()] == [3.0, 3.0]  # type: ignore[misc]
    assert right.get_title("left") == "b" and [*right.lines[0].get_ydata()] == [0.0, 1.0]  # type: ignore[misc]


def test_mosaic_enlarges_by_whole_factors() -> None:
    small, large = np.full((8, 8, 3), 9, np.uint8), np.full((20, 20, 3), 7, np.uint8)
    canvas = figures.mosaic([[small, large]]).axes[0].images[0].get_array()
    assert canvas is not None and canvas.shape == (20, 41, 4)
    assert (
        (canvas[2:18, 2:18, 0] == 9).all()
        and (canvas[:2, :20, 3] == 0).all()
        and (canvas[:, 21:, 0] == 7).all()
    )


def test_complete_rows_are_complete_and_spread_over_classes() -> None:
    data = split([IMAGE, VECTOR], 60)
    present = {"photo": np.arange(60) >= 20, "genes": np.arange(60) < 50}
    rows = figures.complete_rows(replace(data, present=present), 10, data.shared_labels["digit"])
    assert sorted(rows % 10) == list(range(10)) and rows.min() >= 20 and rows.max() < 50
    never = {"photo": np.arange(60) >= 30, "genes": np.arange(60) < 30}
    with pytest.raises(ValueError, match="no row has every modality"):
        figures.complete_rows(replace(data, present=never), 10)


def test_recombinations_take_columns_from_above() -> None:
    """Echo decodes what w was taken from, so every column repeats its head."""
    figure = figures.recombinations(Echo([IMAGE]), split([IMAGE]), n=3)  # type: ignore[arg-type]
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    size = 6
    lefts = [
        i
        for i in range(canvas.shape[1])
        if canvas[:, i, 3].any() and (i == 0 or not canvas[:, i - 1, 3].any())
    ]
    tops = [
        i
        for i in range(canvas.shape[0])
        if canvas[i, :, 3].any() and (i == 0 or not canvas[i - 1, :, 3].any())
    ]
    assert len(lefts) == len(tops) == 4 and not canvas[:size, :size].any()
    for left in lefts[1:]:
        tiles = [canvas[top : top + size, left : left + size] for top in tops]
        assert all((tile == tiles[0]).all() for tile in tiles[1:])
    with pytest.raises(ValueError, match="no private latent for 'photo'"):
        figures.recombinations(Echo([IMAGE], private=False), split([IMAGE]))  # type: ignore[arg-type]


def test_latent_points_come_with_their_rows() -> None:
    data = split([VECTOR, IMAGE], 30)
    points = figures.latent_points(Echo([VECTOR, IMAGE]), data, ["genes"], n=12)  # type: ignore[arg-type]
    assert {key: cloud.values.shape for key, cloud in points.items()} == {
        "z": (12, 4),
        "w_genes": (12, 3),
    }
    z, w = points.values()
    np.testing.assert_array_equal(z.values, data.x["genes"][z.rows, :4])
    np.testing.assert_array_equal(w.values, data.x["genes"][w.rows, 1:4])


def test_posteriors_in_the_plane_are_the_models() -> None:
    """p(z) ∏ p(x_m | z) on a grid has the moments of the exact posterior, and its
    contour encloses 95 % of it."""
    oracle = LinearGaussian.make({"a": 3, "b": 4}, private_dim=0)
    x = oracle.draw(3)
    method = JNF(oracle.modalities, shared_dim=2)
    method.model = oracle.model(oracle.joint_rule())
    assert figures.in_the_plane(method)
    for given in (["a"], ["a", "b"]):
        mean, std = oracle.posterior(x, given)
        for i in range(3):
            first, second, log = _log_posterior(method, oracle.batch(x)[i : i + 1], given, 40.0)
            density = np.exp(log - log.max())
            density /= density.sum()
            for axis, values in enumerate((first, second)):
                marginal = density.sum(1 - axis)
                assert marginal @ values == pytest.approx(mean[i, axis], abs=1e-3)
                assert marginal @ values**2 - (marginal @ values) ** 2 == pytest.approx(
                    std[axis] ** 2, rel=5e-3
                )
            assert log.max() - _level(log) == pytest.approx(chi2.ppf(0.95, 2) / 2, rel=0.1)


def test_pca_finds_the_plane() -> None:
    flat = np.random.default_rng(0).normal(size=(50, 2)) * (5, 1)
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0][:2]
    plane = figures.project(flat @ turned, "pca")
    want = np.linalg.norm(flat - flat.mean(0), axis=1)
    assert (
        np.allclose(np.linalg.norm(plane, axis=1), want)
        and plane[:, 0].std() > 3 * plane[:, 1].std()
    )
    with pytest.raises(ValueError, match="unknown map 'pcb'"):
        figures.project(flat, "pcb")


def test_history_skips_empty_cells_and_keeps_steps(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        "epoch,step,train/loss,val/loss\n0,1,5.0,\n0,2,,4.5\n1,3,3.0,nan\n"
    )
    curves = figures.read_history(tmp_path / "m.csv")
    assert {name: (x.tolist(), y.tolist()) for name, (x, y) in curves.items()} == {
        "train/loss": ([1, 3], [5, 3]),
        "val/loss": ([2], [4.5]),
    }
    panel = figures.losses(curves).axes[0]
    assert panel.get_title("left") == "loss" and len(panel.lines) == 2
    (tmp_path / "m.csv").write_text("")
    with pytest.raises(ValueError, match="is empty"):
        figures.read_history(tmp_path / "m.csv")


def test_figures_choose_no_backend_and_save_as_png(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import numpy as np; from counterpoint import figures; import sys\n"
        f"figures.mosaic([[np.zeros((4, 4, 3), np.uint8)]]).savefig({str(tmp_path / 'a.png')!r})\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False" and (tmp_path / "a.png").read_bytes().startswith(
        b"\x89PNG"
    )
