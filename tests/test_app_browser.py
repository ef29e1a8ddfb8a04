"""The explorer's page in Chromium: what each action shows, on a narrow screen and by
keyboard, without a request to any other host."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch

import counterpoint as cp
from counterpoint.app import Explored, Question, Server, answer, shown
from counterpoint.cli.values import read_values

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("chromium is not installed", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = playwright.expect


@pytest.fixture(scope="module")
def run() -> Explored:
    """An untrained method of images, a vector and a caption."""
    image = cp.Modality("image", (3, 8, 8))
    vector = cp.Modality("genes", (5,), "normal", 1.0, features=("a", "b", "c", "d", "e"))
    text = cp.Modality(
        "caption", (3,), "categorical", None, classes=4, words=("", "red", "blue", "bird")
    )
    torch.manual_seed(0)
    method = cp.DMVAE((image, vector, text), shared_dim=3, private_dim=2)
    rng = np.random.default_rng(0)
    values = {
        "image": rng.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8),
        "genes": rng.normal(size=(60, 5)).astype(np.float32),
        "caption": rng.integers(1, 4, (60, 3)),
    }
    split = cp.data.Split(values, method.modalities, shared_labels={"kind": np.arange(60) % 3})
    return Explored("tiny run", method, split)


@pytest.fixture(scope="module")
def server(run: Explored) -> Iterator[Server]:
    with Server([run, run], read_values, port=0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """The page, loaded. No request may go anywhere else, and no script may fail."""
    asked: list[str] = []
    faults: list[str] = []
    page = browser.new_page()
    page.set_default_timeout(20_000)
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(server.url)
    expect(page.locator("#gallery .card")).to_have_count(24)
    expect(page.locator("#map circle")).to_have_count(60)
    yield page
    page.close()
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(server.url).netloc}
    assert not faults


def ask(page: Any) -> None:
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#keep")).to_be_visible()


def test_rows_are_searched_and_put_in_slots(page: Any) -> None:
    page.fill("#query", "kind=2")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#count")).to_have_text("20 rows")
    page.locator(".card[data-row='5']").click()
    expect(page.locator("#slot-row")).to_have_text("5")
    page.check("input[value=other]")
    page.locator(".card[data-row='8']").click()
    expect(page.locator("#slot-other")).to_have_text("8")
    expect(page.locator("#slot-row")).to_have_text("5")


def test_recombination_shows_the_answer_of_both_runs(page: Any, run: Explored) -> None:
    page.locator(".card[data-row='5']").click()
    ask(page)
    panels = shown.panels(run, answer(run, Question("recombine", 5, 1)))
    expect(page.locator(".answer")).to_have_count(2)
    for i in range(2):
        picture = page.locator(".answer").nth(i).locator("[data-modality=image] img")
        expect(picture).to_have_attribute("src", panels[0]["tiles"][0]["image"])


@pytest.mark.parametrize("kind", ["walk", "traverse", "translate", "sample"])
def test_each_question_shows_as_many_pictures_as_steps(page: Any, kind: str) -> None:
    page.select_option("#kind", kind)
    page.fill("#n", "5")
    ask(page)
    expect(page.locator(".answer").first.locator("[data-modality=image] img")).to_have_count(5)
    expect(page.locator(".answer").first.locator("[data-modality=genes] .bar")).to_have_count(5)
    assert f"kind='{kind}'" in page.locator("#code").inner_text()


def test_a_map_is_coloured_clicked_and_lassoed(page: Any) -> None:
    with page.expect_response("**/map?**w_image**"):
        page.select_option("#map-latent", "w_image")
    expect(page.locator("#legend span")).to_have_count(3)
    page.wait_for_load_state("networkidle")  # the map is drawn anew when the answer is there
    dot = page.locator("#map circle").last
    expect(dot).to_be_visible()
    box = dot.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator("#slot-row")).to_have_text(dot.get_attribute("data-row"))
    around = page.locator("#map").bounding_box()
    left, top = around["x"] + 2, around["y"] + 2
    right, bottom = left + around["width"] - 4, top + around["height"] / 2
    page.mouse.move(left, top)
    page.mouse.down()
    for x, y in ((right, top), (right, bottom), (left, bottom)):
        page.mouse.move(x, y, steps=4)
    page.mouse.up()
    expect(page.locator("#map circle.selected").first).to_be_visible()
    chosen = page.locator("#map circle.selected").count()
    assert 0 < chosen < 60
    expect(page.locator("#count")).to_have_text(f"{chosen} rows")
    page.get_by_role("button", name="Compare the selection").click()
    expect(page.locator("#violins")).to_be_visible()


def test_a_caption_gives_pictures_and_a_bad_one_a_line(page: Any) -> None:
    page.select_option("#kind", "translate")
    page.fill("#own input[name=caption]", "green bird")
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#message")).to_contain_text("the model does not know green")
    page.fill("#own input[name=caption]", "red bird")
    ask(page)
    expect(page.locator("#message")).to_be_hidden()
    expect(page.locator(".answer").first.locator("[data-modality=image] img")).to_have_count(8)


def test_an_upload_that_is_no_image_is_a_line(page: Any, tmp_path: Path) -> None:
    page.select_option("#kind", "translate")
    file = tmp_path / "a.png"
    file.write_bytes(b"no image")
    page.set_input_files("#own input[name=image]", file)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator("#message")).to_contain_text("a.png")
    page.set_input_files("#own input[name=image]", [])
    ask(page)


def test_an_answer_is_downloaded(page: Any, run: Explored) -> None:
    ask(page)
    with page.expect_download() as download:
        page.get_by_role("button", name=".npz").click()
    content = Path(download.value.path()).read_bytes()
    expected = answer(run, Question("recombine", 0, 1)).arrays
    with np.load(io.BytesIO(content)) as found:
        np.testing.assert_allclose(found["genes"], expected["genes"], atol=1e-6)
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_narrow_screen_does_not_scroll_sideways(page: Any) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.select_option("#kind", "translate")
    ask(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_the_keyboard_alone_recombines(page: Any) -> None:
    page.focus("#query")
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.row") == "3":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#slot-row")).to_have_text("3")
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "Ask":
            break
    page.keyboard.press("Enter")
    expect(page.locator("#keep")).to_be_visible()
    assert "row=3, other=1" in page.locator("#code").inner_text()
