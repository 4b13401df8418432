"""The page in a browser: what a person drops, presses and sees. Needs the extra `app` and a Chromium."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Page, browser, find_chromium

ROOT = Path(__file__).parents[2]
TWINS = [ROOT / "example" / f"balls_{name}.mp4" for name in ("impossible", "possible")]
PATIENCE_S = 180.0
_GRADIO_SAYS = "Method not implemented."
"""Of parts of its own, in the console."""

pytest.importorskip("gradio", reason="the extra app is not installed")
pytestmark = pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a running page; Ctrl-C ends it."""
    server = subprocess.Popen(
        [sys.executable, "-m", "wmreward", "app", "--port", "0", "--device", "cpu"],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'MAGI-1'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("http://127.0.0.1:"), line
    yield line.split()[0]
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=60)
    assert server.returncode == 130 and errors.strip() == "the page is closed"


@pytest.fixture(scope="module")
def page(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as page:
        page.open(address)
        wait(page, "!!document.querySelector('#clips input[type=file]')")
        wait(page, "!!document.querySelector('#score')")
        yield page


def wait(page: Page, condition: str) -> None:
    """Until an expression of JavaScript is true."""
    end = time.monotonic() + PATIENCE_S
    while not page.run(condition):
        assert time.monotonic() < end, f"never: {condition}"
        time.sleep(0.1)


def drop(page: Page, where: str, *files: Path) -> None:
    """Give files to an upload in place of what is there, and wait until they have arrived."""
    clear = f"document.querySelector('{where} button[aria-label=Clear]')"
    if page.run(f"!!{clear}"):
        page.run(f"{clear}.click()")
    wait(page, f"!!document.querySelector('{where} input[type=file]')")
    root = page.send("DOM.getDocument")["root"]["nodeId"]
    node = page.send("DOM.querySelector", nodeId=root, selector=f"{where} input[type=file]")[
        "nodeId"
    ]
    page.send("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])
    for file in files:
        wait(page, f"document.querySelector('{where}').innerText.includes('{file.stem}')")


def scored(page: Page, *files: Path) -> str:
    """Drop clips, press the button; what is said of them."""
    drop(page, "#clips", *files)
    page.run("document.querySelector('#score').click()")
    name = files[0].stem
    wait(page, f"document.querySelector('#verdict').innerText.includes('{name}')")
    text: str = page.run("document.querySelector('#verdict').innerText")
    return text


def refusal(request: urllib.request.Request) -> int:
    """The status that a request is refused with."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    refused.value.close()
    return refused.value.code


def test_the_limits_and_the_rule_are_stated(page: Page) -> None:
    text = page.run("document.body.innerText")
    for said in ("The lower the surprise", "at most 8 clips", "50 MB", "60 seconds", "3600 frames"):
        assert said in text


def test_what_is_no_video_gets_one_line(page: Page, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    text = scored(page, broken)
    assert text.startswith("broken.mp4: ") and "Traceback" not in text and "\n" not in text.strip()
    assert page.run("document.querySelectorAll('video').length") == 0


def test_several_clips_are_ranked_with_curve_and_maps(page: Page) -> None:
    text = scored(page, *TWINS)
    assert text.index("balls_possible") < text.index("balls_impossible")
    assert "lower is more plausible" in text and "means nothing" not in text
    wait(page, "document.querySelectorAll('video').length === 2")
    wait(page, "document.querySelector('#curve img')?.naturalWidth > 500")
    wait(page, "[...document.querySelectorAll('video')].every(video => video.videoWidth > 500)")


def test_generation_refuses_in_one_line(page: Page) -> None:
    page.run(
        "[...document.querySelectorAll('button[role=tab]')]"
        ".filter(tab => tab.offsetParent && tab.innerText.startsWith('Generate'))[0].click()"
    )
    wait(page, "!!document.querySelector('#generate')?.offsetParent")
    page.run(
        "(() => { const box = document.querySelector('#prompt textarea'); box.value = ' ';"
        " box.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    time.sleep(0.3)
    page.run("document.querySelector('#generate').click()")
    wait(page, "document.querySelector('#compared').innerText.includes('say in a few words')")


def test_others_are_kept_out(address: str) -> None:
    """A name that was made to point here, and an upload above the limit."""
    request = urllib.request.Request(address, headers={"Host": "elsewhere.example"})
    assert refusal(request) == 400
    head, tail = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n',
        b"\r\n--x--\r\n",
    )
    upload = urllib.request.Request(
        f"{address}/gradio_api/upload",
        head + bytes(51 * 10**6) + tail,
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert refusal(upload) == 413


def test_nothing_outside_this_computer_was_asked_for(address: str, page: Page) -> None:
    """In all of the above."""
    asked = {url for url in page.requested if not url.startswith((address, "data:", "blob:"))}
    assert len(page.requested) > 20 and asked == set()
    assert [said for said in page.messages if _GRADIO_SAYS not in said] == []
