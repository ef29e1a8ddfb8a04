"""Model cards, and models of the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

import counterpoint as cp
from counterpoint.metrics import Evaluation, Score

MODALITIES = (cp.Modality("photo", (1, 4, 4), "laplace"), cp.Modality("genes", (3,), "normal"))
DIGIT = Score(group="probe", kind="probe", latent="z", label="digit", value=0.875, chance=0.1)
EVALUATION = Evaluation((DIGIT,), {"split": "test", "data": {"name": "toy"}})


def model() -> cp.Method:
    torch.manual_seed(0)
    networks = cp.NetworkOptions(hidden=(8,))
    return cp.DMVAE(MODALITIES, shared_dim=4, private_dim=2, networks=networks)


def test_a_card_says_what_the_model_is_and_what_was_measured(tmp_path: Path) -> None:
    method = model()
    method.save_pretrained(tmp_path, evaluation=EVALUATION, licence="mit")
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.license == "mit" and card.data.library_name == "counterpoint"
    assert card.data.tags == ["multimodal", "variational-autoencoder", "dmvae"]
    text = card.text
    assert "# dmvae on toy" in text and f"`dmvae`: {method.title}" in text
    assert "Latents: z 4, w_photo 2, w_genes 2" in text
    assert f"Parameters: {sum(p.numel() for p in method.parameters()):,}" in text
    assert "| photo | 1 × 4 × 4 | laplace |\n| genes | 3 | normal |" in text
    (line,) = [line for line in text.splitlines() if "probe/z/digit" in line]
    assert line.split()[1:] == ["0.875", "0.100"]
    assert "On the test split" in text


def test_a_card_leaves_the_licence_and_what_is_not_known_open(tmp_path: Path) -> None:
    card = ModelCard.load(model().save_pretrained(tmp_path) / "README.md")
    assert card.data.license is None
    assert "Data: not stated" in card.text and "None are stated." in card.text
    assert "the owner of this model chooses one" in card.text


def test_a_card_changes_nothing_about_the_model(tmp_path: Path) -> None:
    method = model()
    again = cp.load(method.save_pretrained(tmp_path, data="toy"))
    assert again.checksum == method.checksum


def test_a_pushed_card_loads_by_the_name_of_its_repository(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: dict[str, Any] = {}

    class Hub:
        def __init__(self, token: str | None) -> None: ...

        def create_repo(self, repository: str, **options: Any) -> None: ...

        def upload_folder(self, *, repo_id: str, folder_path: str) -> str:
            seen["card"] = ModelCard.load(Path(folder_path) / "README.md").text
            return repo_id

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    model().push_to_hub("me/toy", evaluation=EVALUATION)
    assert 'cp.load("me/toy")' in seen["card"] and "# dmvae on toy" in seen["card"]


def test_a_repository_is_downloaded_and_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, asked = model(), {}
    method.save_pretrained(tmp_path / "snapshot")

    def download(repository: str, **options: Any) -> str:
        asked[repository] = options
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    assert cp.load("me/toy", revision="v1").checksum == method.checksum
    wanted = ["config.json", "*.safetensors"]
    assert asked == {"me/toy": {"revision": "v1", "allow_patterns": wanted}}
    (tmp_path / "me").mkdir()  # now it is a path that is not there
    with pytest.raises(FileNotFoundError, match=r"me/toy holds no config\.json"):
        cp.load("me/toy")


def test_a_repository_that_can_not_be_had_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(repository: str, **options: Any) -> str:
        raise OSError("no connection\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gives no such model \(no connection\)$"):
        cp.load("me/toy")
