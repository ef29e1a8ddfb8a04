"""TCGA and one-year mortality: tables of the published layouts, made here."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from counterpoint.data import Dataset, load
from counterpoint.data.sets.mortality import YEAR

pytest.importorskip("pandas")

PATIENTS, GENES, MIRNAS = 60, 12, 9
LACKING = 2  # a miRNA that was not measured in one sample


def patient(i: int) -> str:
    return f"TCGA-A{i % 10}-{i:04d}"


def days(i: int) -> tuple[str, str]:
    """To death and to the last follow-up: dead on day 200 + i, dead later, alive later,
    lost before a year, or nothing known."""
    return [
        (str(200 + i), ""),
        (str(YEAR + 1 + i), ""),
        ("", str(YEAR + i)),
        ("", str(i)),
        ("[Not Available]", "[Not Available]"),
    ][i % 5]


def expected() -> dict[str, int]:
    """The patients that count."""
    return {patient(i): int(i % 5 == 0) for i in range(PATIENTS) if i % 5 < 3}


def counts(features: int, seed: int) -> np.ndarray:
    """(patients, features), of a few directions."""
    rng = np.random.default_rng(seed)
    logs = (
        rng.normal(size=(PATIENTS, 3)) @ rng.normal(size=(3, features))
        + 0.3 * rng.normal(size=(PATIENTS, features))
        + 8
    )
    return np.round(2 ** np.clip(logs, 0, 14)) + 3


def rows(
    values: np.ndarray, columns: list[str], names: list[str], head: str, tab: str = "\t"
) -> str:
    """A table, a row for each of the names."""
    lines = [
        tab.join([head, *columns]),
        *(
            tab.join([name, *(f"{x:.10g}" for x in row)])
            for name, row in zip(names, values, strict=True)
        ),
    ]
    return "\n".join(lines) + "\n"


def written(folder: Path) -> Path:
    """mRNA as features by samples (with a normal sample, a metastasis before a primary
    tumour, and a column that is no sample), miRNA gzipped and the other way round with
    R's dots, and the clinical table."""
    folder.mkdir(parents=True, exist_ok=True)
    mrna = counts(GENES, 0)
    samples = [f"{patient(i)}-01" for i in range(PATIENTS)]
    more = [f"{patient(0)}-11", f"{patient(1)}-06", f"{patient(2)}-06"]
    order = [-1, -2, -3, *range(PATIENTS)]  # the others come first
    table = np.concatenate(
        [mrna, np.full((1, GENES), 1e6), np.full((1, GENES), 2e6), np.full((1, GENES), 3e6)]
    )[order]
    names = np.array([*samples, *more])[order]
    ids = np.arange(GENES)[:, None]
    features = [f"GENE{i}" for i in range(GENES)]
    (folder / "mrna.tsv").write_text(
        rows(np.concatenate([ids, table.T], 1), ["Entrez_Gene_Id", *names], features, "Hugo_Symbol")
    )
    mirna = counts(MIRNAS, 1)
    dotted = [name.replace("-", ".").lower() for name in samples]
    lines = rows(mirna, [f"hsa-mir-{i}" for i in range(MIRNAS)], dotted, "", ",").splitlines()
    cells = lines[6].split(",")
    lines[6] = ",".join([*cells[: LACKING + 1], "NA", *cells[LACKING + 2 :]])
    (folder / "mirna.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    clinical = "".join(
        "\t".join([f"case{i}", patient(i), "Alive", *days(i)]) + "\n" for i in range(PATIENTS)
    )
    head = "case_id\tsubmitter_id\tvital_status\tdays_to_death\tdays_to_last_follow_up\n"
    (folder / "clinical.txt").write_text(head + clinical)
    return folder


def scores(data: Dataset, name: str) -> dict[str, np.ndarray]:
    return {
        str(i): s.x[name][k]
        for s in data.splits().values()
        for k, i in enumerate(s.ids if s.ids is not None else ())
    }


def test_who_counts_and_who_died(tmp_path: Path) -> None:
    written(tmp_path / "tcga")
    data = load("tcga-mortality", root=tmp_path, components=3)
    found = {
        str(i): int(y)
        for s in data.splits().values()
        for i, y in zip(s.ids, s.shared_labels["mortality"], strict=True)
    }  # type: ignore[arg-type]
    assert found == expected() and data.notes["label/mortality"] == "alive, dead"
    assert [(m.name, m.shape, m.likelihood, m.scale, m.features[0]) for m in data.modalities] == [
        ("mrna", (3,), "laplace", None, "PC1"),
        ("mirna", (3,), "laplace", None, "PC1"),
    ]
    assert [len(s) for s in data.splits().values()] == [25, 4, 7]
    assert [int(s.shared_labels["mortality"].sum()) for s in data.splits().values()] == [8, 2, 2]
    assert data.checksum() == load("tcga-mortality", root=tmp_path, components=3).checksum()


def test_components_are_those_of_the_logarithms_of_the_train_rows(tmp_path: Path) -> None:
    from sklearn.decomposition import PCA

    written(tmp_path)  # straight into the root
    data = load("tcga-mortality", root=tmp_path, components=4, seed=3)
    number = {patient(i): i for i in range(PATIENTS)}
    for name, values in (("mrna", counts(GENES, 0)), ("mirna", counts(MIRNAS, 1))):
        logs = np.log2(1 + (np.delete(values, LACKING, 1) if name == "mirna" else values))
        train = [number[str(i)] for i in data.train.ids]  # type: ignore[union-attr]
        scaled = (logs - logs[train].mean(0)) / logs[train].std(0)
        pca = PCA(4, svd_solver="full").fit(scaled[train])
        theirs = pca.transform(scaled) / pca.transform(scaled[train])[:, 0].std()
        mine = scores(data, name)
        mine_rows, their_rows = np.stack([*mine.values()]), theirs[[number[i] for i in mine]]
        signs = np.sign((mine_rows * their_rows).sum(0))
        np.testing.assert_allclose(mine_rows, their_rows * signs, rtol=1e-3, atol=1e-3)


def test_logarithms_stay_as_they_are(tmp_path: Path) -> None:
    written(tmp_path)
    logs = np.log2(1 + counts(GENES, 0))
    (tmp_path / "mrna.tsv").unlink()
    text = rows(
        logs.T,
        [patient(i) for i in range(PATIENTS)],
        [f"GENE{i}" for i in range(GENES)],
        "sample",
        ",",
    )
    (tmp_path / "mrna.csv").write_text(text)
    plain, raw = (
        load("tcga-mortality", root=tmp_path, components=2),
        load("tcga-mortality", root=written(tmp_path / "tcga").parent, components=2),
    )
    np.testing.assert_allclose(
        np.abs(plain.train.x["mrna"]), np.abs(raw.train.x["mrna"]), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ("change", "components", "error", "message"),
    [
        (lambda f: (f / "clinical.txt").unlink(), 3, FileNotFoundError, r"clinical.tsv is missing \(.csv, .txt or gzipped will do\)"),
        (lambda f: None, 100, ValueError, "mrna.tsv: 25 train rows of 12 features have 12 components, not 100; set components"),
        (lambda f: (f / "mrna.tsv").write_text("a\tb\nc\t1\n"), 3, ValueError, "mrna.tsv has no TCGA barcode of a tumour"),
        (lambda f: (f / "mirna.csv.gz").write_bytes(b"\x1f\x8b\x08\x00broken"), 3, ValueError, "mirna.csv.gz is no table that can be read"),
        (lambda f: (f / "clinical.txt").write_text("id\tdays_to_death\nTCGA-A0-0000\t1\n"), 3, ValueError, "clinical.txt has no column of TCGA"),
        (
            lambda f: (f / "clinical.txt").write_text("id\tdays_to_death\tdays_to_last_followup\nTCGA-ZZ-0000\t1\t\n"),
            3,
            ValueError,
            "no patient is in all tables with a year known of; they hold 60 of mrna, 60 of mirna, 1 of clinical",
        ),
        (
            lambda f: (f / "mrna.tsv").write_text(rows(counts(GENES, 0) - 2000, [f"g{i}" for i in range(GENES)], [*map(patient, range(PATIENTS))], "x")),
            3,
            ValueError,
            "neither counts nor their logarithms",
        ),
    ],
)  # fmt: skip
def test_tables_that_are_laid_out_otherwise_are_refused(
    change: object, components: int, error: type[Exception], message: str, tmp_path: Path
) -> None:
    change(written(tmp_path))  # type: ignore[operator]
    with pytest.raises(error, match=message) as caught:
        load("tcga-mortality", root=tmp_path, components=components)
    assert "\n" not in str(caught.value)
