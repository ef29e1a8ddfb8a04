"""The explorer: answers by their values, a server that is safe by default, and its page in
a browser."""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

import counterpoint as cp
from counterpoint.app import Answer, Explored, Question, Server, answer, shown
from counterpoint.app.answers import code, most_moved
from counterpoint.cli import main
from counterpoint.cli.app import explored
from counterpoint.cli.values import read_values

TINY = (
    *("--data", "digits-quadrant", "--data.pairings", "1", "--data.views", "2"),
    *("--max_steps", "3", "--batch-size", "16", "--shared_dim", "4", "--private_dim", "4"),
    *("--fit.progress", "false", "--fit.loggers", "[]"),
    *("--model.networks.width", "4", "--model.networks.hidden", "[16]"),
    *("--fit.trainer.limit_val_batches", "1"),
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps."""
    folder = tmp_path_factory.mktemp("app") / "run"
    assert main(["fit", "mmvae+", *TINY, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def run(folder: Path) -> Explored:
    return explored(folder)


@pytest.fixture(scope="session")
def words() -> Explored:
    """An untrained method of a vector and a caption."""
    vector = cp.Modality("genes", (5,), "normal", 1.0, features=("a", "b", "c", "d", "e"))
    text = cp.Modality(
        "caption", (3,), "categorical", None, classes=4, words=("", "red", "blue", "bird")
    )
    torch.manual_seed(0)
    method = cp.DMVAE((vector, text), shared_dim=3, private_dim=2)
    rng = np.random.default_rng(0)
    split = cp.data.Split(
        {
            "genes": rng.normal(size=(40, 5)).astype(np.float32),
            "caption": rng.integers(1, 4, (40, 3)),
        },
        method.modalities,
        shared_labels={"kind": np.arange(40) % 2},
    )
    return Explored("words", method, split)


@pytest.fixture(scope="session")
def server(run: Explored) -> Iterator[Server]:
    yield from serving([run, run])


@pytest.fixture(scope="session")
def word_server(words: Explored) -> Iterator[Server]:
    yield from serving([words])


def serving(runs: list[Explored], host: str = "127.0.0.1") -> Iterator[Server]:
    with Server(runs, read_values, host, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(server: Server, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    """Status and content of an answer of the server."""
    url = urlsplit(server.url)
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{url.port}{path}",
        data,
        {"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def refusal(server: Server, path: str, body: Any = None) -> str:
    status, content = fetch(server, path, body)
    assert status == 400
    text: str = json.loads(content)["error"]
    assert "\n" not in text
    return text


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name])


# -------------------------------------------------------------------------------- answers


def test_recombine_is_that_of_the_method(run: Explored) -> None:
    made = answer(run, Question("recombine", 3, 8)).values
    equal(made, run.method.recombine(run.rows.batch([3]), run.rows.batch([8])))
    assert not torch.equal(made["view0"], answer(run, Question("recombine", 8, 3)).values["view0"])


def test_a_walk_in_z_goes_from_a_row_to_the_other_one_with_its_w(run: Explored) -> None:
    made = answer(run, Question("walk", 3, 8, n=5)).values
    equal({k: v[:1] for k, v in made.items()}, answer(run, Question("recombine", 3, 3)).values)
    equal({k: v[-1:] for k, v in made.items()}, answer(run, Question("recombine", 8, 3)).values)


def test_a_walk_in_w_moves_one_modality(run: Explored) -> None:
    made = answer(run, Question("walk", 3, 8, latent="w_view1", n=4)).values
    end = answer(run, Question("recombine", 3, 8)).values
    torch.testing.assert_close(made["view1"][-1:], end["view1"])
    torch.testing.assert_close(made["view0"][0], made["view0"][-1])
    assert float((made["view1"][0] - made["view1"][-1]).abs().max()) > 1e-4


def test_a_traversal_sets_one_coordinate(run: Explored) -> None:
    made = answer(run, Question("traverse", 5, latent="z", coordinate=2, n=3))
    assert made.titles == ("-3.00", "+0.00", "+3.00")
    latents = run.method.encode(run.rows.batch([5]))
    latents.shared[..., 2] = 3.0
    expected = run.method.decode(latents)
    equal({k: v[-1] for k, v in made.values.items()}, {k: v[0, 0] for k, v in expected.items()})


def test_translate_and_sample_are_those_of_the_method(run: Explored) -> None:
    made = answer(run, Question("translate", 2, given=("view0",), n=4, seed=9)).values
    expected = run.method.translate(
        run.rows.batch([2]).only(["view0"]), n=4, generator=torch.Generator().manual_seed(9)
    )
    equal(made, {k: v[:, 0] for k, v in expected.items()})
    drawn = answer(run, Question("sample", n=4, seed=9)).values
    equal(drawn, run.method.sample(4, generator=torch.Generator().manual_seed(9)))


def test_features_that_move_most_come_first(words: Explored) -> None:
    made = answer(words, Question("traverse", 1, n=7))
    ranges = np.ptp(made.arrays["genes"], 0)
    order = most_moved(made.values["genes"])
    assert order.tolist() == np.argsort(-ranges).tolist()
    bars = shown.panels(words, made)[0]["bars"]
    assert [bar["feature"] for bar in bars] == ["abcde"[i] for i in order]
    first = made.arrays["genes"][:, order[0]]
    assert bars[0]["change"] == pytest.approx(first[-1] - first[0])


def test_the_spread_of_a_translation_is_that_of_its_draws(words: Explored) -> None:
    made = answer(words, Question("translate", 1, given=("caption",), n=16))
    bars = {bar["feature"]: bar for bar in shown.panels(words, made)[0]["bars"]}
    draws = made.arrays["genes"]
    assert bars["c"]["mean"] == pytest.approx(draws[:, 2].mean(), rel=1e-5)
    assert bars["c"]["sd"] == pytest.approx(draws[:, 2].std(), rel=1e-5)


@pytest.mark.parametrize(
    "question, reason",
    [
        (Question(row=10**6), "no row 1000000; choose from 0 to"),
        (Question(row=-1), "no row -1"),
        (Question("walk", latent="w_x"), "unknown latent 'w_x'; choose one of z, w_view0"),
        (Question("traverse", coordinate=4), "no coordinate 4; choose from 0 to 3"),
        (Question("translate", given=("x",)), "x"),
        (Question("sample", prior="x"), "prior"),
        (Question("sample", guidance=2.0), "no decoder of this model draws by diffusion"),
    ],
)
def test_what_is_not_there_is_refused(run: Explored, question: Question, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        answer(run, question)


@pytest.mark.parametrize(
    "entries",
    [{"kind": "x"}, {"n": 65}, {"n": 0}, {"row": "1"}, {"row": True}, {"given": "z"}, {"x": 1}],
)
def test_a_bad_question_is_refused(entries: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Question.of(entries)


def test_the_printed_python_makes_the_answer_again(
    run: Explored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    question = Question("translate", 7, given=("view1",), n=3, seed=5)
    exec(code(run, question), {})
    expected = answer(run, question).arrays
    with np.load("answer.npz") as again:
        assert {*again} == {*expected}
        for name in expected:
            np.testing.assert_allclose(again[name], expected[name], atol=1e-6)


# -------------------------------------------------------------------------- rows and maps


def test_rows_are_found_by_label_and_text(run: Explored, words: Explored) -> None:
    digits = run.rows.shared_labels["digit"]
    found = shown.gallery(run, "digit=3")
    assert found["count"] == int((digits == 3).sum())
    assert [card["row"] for card in found["rows"]] == np.flatnonzero(digits == 3)[:24].tolist()
    birds = np.flatnonzero((np.asarray(words.rows.x["caption"]) == 3).any(1))
    assert shown.gallery(words, "bird")["count"] == len(birds)


def test_a_map_has_the_principal_plane_and_the_labels(run: Explored) -> None:
    drawn = shown.mapped(run, "w_view0", "view0/quadrant")
    rows = drawn["rows"]
    assert drawn["values"] == run.rows.private_labels["quadrant"]["view0"][rows].tolist()
    w = run.method.encode(run.rows.batch(np.array(rows))).private["view0"][0].numpy()
    first = np.linalg.svd(w - w.mean(0), full_matrices=False)[0][:, 0]
    assert abs(np.corrcoef(first, np.array(drawn["places"])[:, 0])[0, 1]) > 0.999


def test_violins_need_two_groups(words: Explored) -> None:
    image = shown.violins(words, "genes", {"selected": [0, 1, 2], "others": [3, 4, 5]})
    assert base64.b64decode(image.partition(",")[2]).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="two groups of two rows"):
        shown.violins(words, "genes", {"selected": [0], "others": [3, 4]})


# --------------------------------------------------------------------------------- server


def test_visitors_at_once_get_what_each_would_alone(server: Server, run: Explored) -> None:
    questions = [
        Question("translate", i, given=("view0",), n=2, seed=i * 17 + 1) for i in range(20)
    ]

    def ask(question: Question) -> dict[str, np.ndarray]:
        status, content = fetch(server, "/api/answer.npz", {"question": vars(question)})
        assert status == 200
        with np.load(io.BytesIO(content)) as found:
            return {name: found[name] for name in found}

    with ThreadPoolExecutor(20) as pool:
        found = [*pool.map(ask, questions)]
    for question, arrays in zip(questions, found, strict=True):
        alone = answer(run, question).arrays
        for name in alone:
            np.testing.assert_allclose(arrays[name], alone[name], atol=1e-6)


def test_downloads_hold_what_is_seen(server: Server, run: Explored) -> None:
    body = {"question": {"kind": "walk", "row": 1, "other": 4, "n": 3}}
    status, png = fetch(server, "/api/answer.png", body)
    assert status == 200 and png == shown.picture(run, answer(run, Question("walk", 1, 4, n=3)))


def test_every_address_but_loopback_needs_a_token(run: Explored) -> None:
    for server in serving([run], "0.0.0.0"):
        token = server.url.partition("token=")[2]
        assert len(token) >= 32
        for path in ("/", "/app.js", "/api/about", "/?token=x", "/api/rows?token="):
            assert fetch(server, path)[0] == 401
        assert fetch(server, "/api/answer", {"question": {}})[0] == 401
        assert fetch(server, f"/?token={token}")[0] == 200
        assert fetch(server, "/api/about", Cookie=f"counterpoint={token}")[0] == 200
        assert fetch(server, "/api/about", Cookie="counterpoint=é")[0] == 401


def test_pages_of_others_cannot_ask(server: Server) -> None:
    assert fetch(server, "/api/about", Host="evil.example")[0] == 403
    body = {"question": {}}
    assert fetch(server, "/api/answer", body, **{"Content-Type": "text/plain"})[0] == 415


def test_a_port_in_use_is_one_line_and_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        capsys.readouterr()
        assert main(["app", str(folder), "--port", port]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and f"port {port} of 127.0.0.1 is in use" in lines[0]


def test_a_run_whose_data_are_gone_says_so_and_samples(tmp_path: Path, folder: Path) -> None:
    gone = tmp_path / "run"
    shutil.copytree(folder, gone)
    config = gone / "config.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("digits-quadrant", str(tmp_path / "gone")), encoding="utf-8")
    left = explored(gone)
    assert "gone" in left.problem
    for server in serving([left]):
        assert left.problem in refusal(server, "/api/rows")
        assert left.problem in refusal(server, "/api/answer", {"question": {"kind": "walk"}})
        assert fetch(server, "/api/answer", {"question": {"kind": "sample"}})[0] == 200


def upload(name: str, content: bytes) -> dict[str, str]:
    return {"name": name, "data": base64.b64encode(content).decode()}


def test_an_uploaded_image_is_translated(server: Server, run: Explored) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    body = {
        "question": {"kind": "translate", "n": 2, "seed": 3},
        "files": {"view0": upload("a.png", buffer.getvalue())},
    }
    status, content = fetch(server, "/api/answer.npz", body)
    assert status == 200
    values = torch.tensor(pixels.transpose(2, 0, 1)[None] / 255, dtype=torch.float32)
    expected = run.method.translate(
        {"view0": values}, n=2, generator=torch.Generator().manual_seed(3)
    )
    with np.load(io.BytesIO(content)) as found:
        np.testing.assert_allclose(found["view1"], expected["view1"][:, 0], atol=1e-5)


@pytest.mark.parametrize("name", ["a.png", "../../a.npy", "a.exe", "a.json", ""])
def test_what_is_no_image_is_one_line_and_leaves_nothing(
    server: Server, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    body = {"question": {"kind": "translate"}, "files": {"view0": upload(name, b"no image")}}
    text = refusal(server, "/api/answer", body)
    assert str(tmp_path) not in text and not [*tmp_path.iterdir()]
    assert fetch(server, "/api/about")[0] == 200


def test_uploads_are_limited(server: Server) -> None:
    url = urlsplit(server.url)
    with socket.create_connection(("127.0.0.1", url.port)) as visitor:
        head = (
            f"POST /api/answer HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {9 * 2**20}\r\n\r\n"
        )
        visitor.sendall(head.encode())
        answered = b"".join(iter(lambda: visitor.recv(4096), b""))
    assert answered.startswith(b"HTTP/1.1 413") and b"give a smaller file" in answered


def test_a_caption_is_read_as_text_and_never_as_a_file(word_server: Server) -> None:
    def body(text: str) -> dict[str, Any]:
        return {"question": {"kind": "translate"}, "files": {"caption": {"text": text}}}

    status, content = fetch(word_server, "/api/answer", body("red bird"))
    assert status == 200 and "'red bird'" in json.loads(content)["code"]
    assert "does not know" in refusal(word_server, "/api/answer", body("/etc/hostname"))
    assert "is empty" in refusal(word_server, "/api/answer", body("  "))


def test_faults_keep_the_page_up(server: Server) -> None:
    for path in ("/api/rows?start=x", "/api/map?latent=x", "/api/rows?run=7", "/api/rows?only=x"):
        assert refusal(server, path)
    assert refusal(server, "/api/answer", [1]) == "a question is a JSON object"
    assert fetch(server, "/../serve.py")[0] == 404
    assert fetch(server, "/api/about")[0] == 200


def test_titles_are_as_many_as_values(run: Explored) -> None:
    for kind in ("recombine", "walk", "traverse", "translate", "sample"):
        made: Answer = answer(run, Question(kind, n=3))  # type: ignore[arg-type]
        assert {len(v) for v in made.values.values()} == {len(made.titles)}
