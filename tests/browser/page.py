"""The page of `srlora serve` in a real browser, against the real server: as a newcomer on a phone, on a desktop, by keyboard alone, over
an origin that is not secure, with a camera that is made up. axe looks at every view. Prints what was measured.

    python3 tests/browser/page.py --program target/release/srlora --axe axe.min.js --shots FOLDER
"""

import argparse
import io
import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

PROJECT = Path(__file__).resolve().parents[2]
DEMO = PROJECT / "models/handwriting"
PHONE = dict(viewport=dict(width=390, height=844), device_scale_factor=2, has_touch=True, is_mobile=True)
DESKTOP = dict(viewport=dict(width=1280, height=900))
VIEWS = ["see", "collect", "learn", "undo"]
# A name that leads here, and that no browser takes for secure.
NAME = "pi.local"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--program", type=Path, required=True)
parser.add_argument("--axe", type=Path, required=True)
parser.add_argument("--chromium", default=shutil.which("chromium"))
parser.add_argument("--shots", type=Path)
parser.add_argument("--working-tree", action="store_true", help="the page's files as they are now, not those in the program")
parser.add_argument("--picture", type=Path, help="only take the picture of the documentation")
parser.add_argument("--only", default="", help="the checks whose names hold this")
args = parser.parse_args()


def photos(name: str, count: int, part: str = "train") -> list[Path]:
    return sorted((DEMO / part / name).iterdir())[:count]


class Server:
    """The program, serving from an empty folder."""

    def __init__(self, *more: str) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="srlora-page-"))
        self.errors = open(self.place / "stderr", "w+")
        command = [str(args.program), "serve", str(DEMO / "handwriting.bundle"), "--store", str(self.place / "store")]
        command += ["--photos", str(self.place / "photos"), "--listen", "127.0.0.1:0", "--host", NAME, "--json", *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.port = re.search(r":(\d+)/", self.url).group(1)
        self.token = (re.findall(r"token=(\w+)", self.url) or [None])[0]

    def at(self, name: str) -> str:
        return self.url.replace("127.0.0.1", name)

    def ask(self, path: str, body: bytes | None = None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers={"X-Srlora": "1"})
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request) as answer:
            return answer.read()

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, "it ends cleanly"
        self.errors.seek(0)
        said = self.errors.read()
        assert "panicked" not in said, said
        shutil.rmtree(self.place)


@contextmanager
def served(*more: str):
    server = Server(*more)
    try:
        yield server
    finally:
        server.end()


def camera(folder: Path) -> tuple[str, str]:
    return "--camera", f"{sys.executable} {PROJECT / 'tests/browser/camera.py'} {folder}"


@contextmanager
def opened(browser, **kind):
    """A page that asks nobody but the device, and has nothing to complain of."""
    context = browser.new_context(reduced_motion="reduce", **kind)
    page = context.new_page()
    page.set_default_timeout(30_000)
    faults, asked = [], set()
    page.on("pageerror", lambda error: faults.append(str(error)))
    # What was refused on purpose is said by the page, and by the browser too.
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" and "status of 4" not in message.text else None)
    page.on("request", lambda request: asked.add(request.url.split("/")[2].split(":")[0]) if "://" in request.url and not request.url.startswith("blob:") else None)
    if args.working_tree:
        kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

        def as_it_is(route):
            path = route.request.url.split("?")[0].split("/", 3)[3]
            file = PROJECT / "src/serve/page" / (path or "index.html")
            if file.is_file() and "token=" not in route.request.url:
                route.fulfill(body=file.read_bytes(), content_type=kinds[file.suffix])
            else:
                route.continue_()

        context.route(lambda url: "/api/" not in url, as_it_is)
    try:
        yield page
        assert not faults, faults
        assert asked <= {"127.0.0.1", "localhost", NAME}, asked
    finally:
        context.close()


def shows_a_camera(page: Page) -> None:
    """Waits for a live picture in Collect. Not by `wait_for_function`, which the page's own policy forbids to ask twice."""
    begin = time.monotonic()
    while not page.evaluate("document.querySelector('#view-collect .stage img')?.naturalWidth > 0"):
        assert time.monotonic() - begin < 60, "the camera shows nothing"
        page.wait_for_timeout(50)


def go(page: Page, view: str) -> None:
    page.locator(f'.tabs a[href="#{view}"]').click()
    expect(page.locator(f"#title-{view}")).to_be_visible()


def make(page: Page, name: str) -> None:
    page.get_by_role("button", name=re.compile("New class|Make a class")).first.click()
    page.get_by_label("What is it called?").fill(name)
    page.get_by_role("button", name="Make it").click()
    expect(page.locator(f'.chip[data-name="{name}"][aria-pressed=true]')).to_be_visible()


def choose_photos(page: Page, files: list[Path]) -> None:
    page.locator("#view-collect").get_by_label("Choose photos").set_input_files([str(file) for file in files])
    expect(page.locator("#view-collect .grid li")).to_have_count(len(files))


def looked_at(page: Page, name: str) -> None:
    """axe, and whether anything sticks out at the side."""
    # A phone zooms out to show what sticks out, so the window's own width tells nothing.
    wide = page.evaluate("document.scrollingElement.scrollWidth") - page.viewport_size["width"]
    assert wide <= 0, f"{name}: {wide} pixels stick out"
    found = page.evaluate(args.axe.read_text() + "\n;axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))]))")
    assert not found, f"{name}: {json.dumps(found, indent=1)}"
    if args.shots:
        args.shots.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=args.shots / f"{name}.png", full_page=True)


def a_newcomer_with_a_phone(browser) -> None:
    """From opening the page to a lesson with three classes of ten photos; over http, where browsers give no camera."""
    with served("--token", str(Path(tempfile.mkdtemp()) / "token")) as server, opened(browser, **PHONE) as page:
        begin = time.monotonic()
        page.goto(server.at(NAME))
        page.wait_for_url(f"http://{NAME}:{server.port}/")
        assert not page.evaluate("isSecureContext"), "this origin is not secure"
        expect(page.get_by_role("button", name="This browser's camera")).to_have_count(0)
        expect(page.get_by_text("There is no class yet")).to_be_visible()
        go(page, "collect")
        for name in "012":
            make(page, f"digit {name}")
            choose_photos(page, photos(name, 10))
        go(page, "learn")
        expect(page.locator("#view-learn table tbody tr")).to_have_count(3)
        expect(page.get_by_text("takes about")).to_be_visible()
        page.get_by_role("button", name="Learn", exact=True).click()
        expect(page.locator(".verdict")).to_contain_text(re.compile("^Kept[.:]"), timeout=120_000)
        print(f"a newcomer's lesson, from opening the page: {time.monotonic() - begin:.1f} s and thinking")
        looked_at(page, "phone-learned")
        with page.expect_download() as kept:
            page.get_by_role("link", name="Save a report").click()
        assert "digit 2" in Path(kept.value.path()).read_text() and kept.value.suggested_filename == "lesson.html"
        report = server.place / "lesson.html"
        kept.value.save_as(report)
        shows_a_report(browser, report)
        page.get_by_role("link", name="See it at work").click()
        page.locator("#view-see").get_by_label("Choose a photo").set_input_files(str(photos("1", 1, "val")[0]))
        expect(page.locator(".bar.first .name")).to_have_text("digit 1")
        looked_at(page, "phone-seen")


def shows_a_report(browser, report: Path) -> None:
    """Its own policy lets its own style in, and nothing else."""
    context = browser.new_context(**PHONE)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    assert page.evaluate("getComputedStyle(document.querySelector('main')).maxWidth") != "none", said
    looked_at(page, "report")
    assert not said, said
    page.evaluate("document.body.append(Object.assign(document.createElement('style'), {textContent: 'body { opacity: 0 }'}))")
    assert page.evaluate("getComputedStyle(document.body).opacity") == "1", "a foreign style is let in"
    context.close()


def a_class_appears_while_it_is_collected(browser) -> None:
    """Held, the button collects from the device's camera; the class is among the guesses at once, and guesses go on during a lesson."""
    with served(*camera(DEMO / "val/7")) as server, opened(browser, **PHONE) as page:
        page.goto(server.url)
        go(page, "collect")
        make(page, "seven")
        hold = page.get_by_role("button", name="Hold to collect")
        expect(hold).to_be_visible()
        shows_a_camera(page)
        place = hold.bounding_box()
        page.mouse.move(place["x"] + 20, place["y"] + 20)
        page.mouse.down()
        begin = time.monotonic()
        while "seven" not in json.dumps(json.loads(server.ask("/api/state"))["known"]):
            assert time.monotonic() - begin < 20
            page.wait_for_timeout(20)
        print(f"from the first moment of collecting to the class among the guesses: {time.monotonic() - begin:.2f} s")
        page.wait_for_timeout(2000)
        page.mouse.up()
        expect(page.locator("#view-collect .grid li").nth(2)).to_be_visible()
        for name in "01":
            for photo in photos(name, 10):
                server.ask(f"/api/photos?class={name}", photo.read_bytes())
        go(page, "see")
        expect(page.locator(".bar.first .name")).to_have_text("seven")
        looked_at(page, "phone-live")
        server.ask("/api/lesson", b'{"epochs": 600}')
        expect(page.locator("#now")).to_have_text(re.compile("^Learning"))
        page.wait_for_timeout(2500)
        rate = page.locator("#view-see .rate").inner_text()
        print(f"guesses about the camera's picture during a lesson: {rate}")
        assert float(rate.split()[0]) > 1, rate
        looked_at(page, "phone-live-during-a-lesson")
        go(page, "learn")
        expect(page.locator("progress")).to_be_visible()
        expect(page.locator("svg.chart")).to_be_visible(timeout=120_000)
        looked_at(page, "phone-learning")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("A lesson is not finished")).to_be_visible(timeout=60_000)
        looked_at(page, "phone-left")
        page.get_by_role("button", name="Let it go").click()
        expect(page.get_by_text("A lesson is not finished")).to_be_hidden()


def photos_are_put_in_order(browser) -> None:
    """Moved, renamed, joined, deleted; learned, taken back, forgotten; and two pages see the same."""
    with served() as server, opened(browser, **DESKTOP) as page, opened(browser, **DESKTOP) as other:
        for name in "012":
            for photo in photos(name, 10):
                server.ask(f"/api/photos?class={name}", photo.read_bytes())
        page.goto(server.url + "#collect")
        expect(page.locator("#view-collect .grid li")).to_have_count(10)
        other.goto(server.url + "#learn")
        tiles = page.locator("#view-collect .thumb")
        tiles.nth(0).click()
        tiles.nth(1).click()
        expect(page.get_by_text("2 chosen")).to_be_visible()
        looked_at(page, "desktop-chosen")
        page.get_by_role("button", name="Move to…").click()
        looked_at(page, "desktop-asked")
        page.get_by_role("combobox").select_option("1")
        page.get_by_role("button", name="Move", exact=True).click()
        expect(page.locator('.chip[data-name="1"] .count')).to_contain_text("12")
        expect(other.get_by_role("row", name="0 8 fair")).to_be_visible()
        page.locator('.chip[data-name="2"]').click()
        page.get_by_role("button", name="Rename").click()
        page.get_by_label("New name").fill("two")
        page.get_by_role("dialog").get_by_role("button", name="Rename").click()
        expect(page.locator('.chip[data-name="two"]')).to_be_visible()
        other.get_by_role("button", name="Learn", exact=True).click()
        expect(other.locator(".verdict")).to_be_visible(timeout=120_000)
        looked_at(other, "desktop-learned")
        doubt = other.get_by_text("Filed under 1, looks like 0.")
        print(f"of the two photos in the wrong class, {doubt.count()} are found after the lesson")
        if other.locator(".matrix button").count():
            other.locator(".matrix button").first.click()
            expect(other.locator("#view-learn .grid img").first).to_be_visible()
        if doubt.count():
            other.get_by_role("button", name="It is 0").first.click()
            expect(other.get_by_text("Moved to 0.").first).to_be_visible()
        go(page, "undo")
        expect(page.locator(".line li")).to_have_count(2)
        looked_at(page, "desktop-undo")
        page.get_by_role("button", name="Go back to this: 1").click()
        expect(page.locator(".line li").first).to_contain_text("3.")
        page.get_by_role("button", name="Forget two").click()
        page.get_by_role("dialog").get_by_role("button", name="Forget", exact=True).click()
        expect(page.get_by_text("Forgot two")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("link", name="What was learned (store)").click()
        assert Path(download.value.path()).stat().st_size > 10_000


def a_camera_that_fails_says_why(browser) -> None:
    """Where it is looked at, and where photos would be collected from it."""
    with served("--camera", "echo 'no such device' >&2; exit 1") as server, opened(browser, **PHONE) as page:
        page.goto(server.url)
        fault = re.compile("The camera gives no picture: .*no such device")
        expect(page.locator("#view-see").get_by_text(fault)).to_be_visible()
        go(page, "collect")
        make(page, "seven")
        expect(page.locator("#view-collect").get_by_text(fault)).to_be_visible()
        looked_at(page, "phone-no-camera")


def folders_are_dropped(browser) -> None:
    """Each folder becomes a class, with a hundred photos and more."""
    with served() as server, opened(browser, **DESKTOP) as page:
        page.goto(server.url + "#collect")
        expect(page.get_by_text("What should it learn to tell apart?")).to_be_visible()
        folders = [str(DEMO / "val" / name) for name in "345"]
        drag = page.context.new_cdp_session(page)
        place = page.locator(".drop").bounding_box()
        for kind in ("dragEnter", "dragOver", "drop"):
            data = {"items": [], "files": folders, "dragOperationsMask": 1}
            drag.send("Input.dispatchDragEvent", {"type": kind, "x": place["x"] + 30, "y": place["y"] + 20, "data": data})
        begin = time.monotonic()
        expect(page.locator("#said")).to_have_text("120 photos taken.", timeout=60_000)
        print(f"120 photos of three dropped folders: {time.monotonic() - begin:.1f} s")
        told = {known["name"]: known["photos"] for known in json.loads(server.ask("/api/classes"))["classes"]}
        assert told == {"3": 40, "4": 40, "5": 40}, told


def what_a_photo_tells_of_its_place_stays_with_the_phone(browser) -> None:
    with served() as server, opened(browser, **PHONE) as page:
        whole = Path(tempfile.mkdtemp()) / "photo.jpg"
        exif = Image.Exif()
        exif[0x010F] = "a phone"
        exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
        Image.effect_noise((3000, 2000), 40).convert("RGB").save(whole, exif=exif)
        assert b"Exif" in whole.read_bytes()
        page.goto(server.url + "#collect")
        make(page, "a")
        choose_photos(page, [whole])
        (photo,) = json.loads(server.ask("/api/photos?class=a"))["photos"]
        kept = server.ask(f"/api/photos/{photo['id']}")
        print(f"a photo of {whole.stat().st_size} bytes is kept as {len(kept)}, {Image.open(io.BytesIO(kept)).size}, without EXIF")
        assert b"Exif" not in kept and min(Image.open(io.BytesIO(kept)).size) <= 512
        heic = whole.with_suffix(".heic")
        heic.write_bytes(b"\0\0\0\x18ftypheic no picture")
        page.locator("#view-collect").get_by_label("Choose photos").set_input_files(str(heic))
        expect(page.locator("#said")).to_contain_text("0 of 1 taken")


def every_view_is_for_everybody(browser) -> None:
    """axe finds nothing, in light and dark, on a phone and a desktop, at 200 % and at 400 %, with classes and without."""
    with served(*camera(DEMO / "val/7")) as server:
        sizes = {"phone": PHONE, "desktop": DESKTOP, "zoomed": dict(viewport=dict(width=640, height=450), device_scale_factor=2),
                 "narrow": dict(viewport=dict(width=320, height=256), device_scale_factor=4)}
        for filled in (False, True):
            if filled:
                for name in "012":
                    for photo in photos(name, 10):
                        server.ask(f"/api/photos?class=a%20rather%20long%20name%20{name}", photo.read_bytes())
                server.ask("/api/lesson", b"")
                while json.loads(server.ask("/api/lesson"))["running"]:
                    time.sleep(0.1)
            for scheme in ("light", "dark"):
                for size, kind in sizes.items():
                    with opened(browser, color_scheme=scheme, **kind) as page:
                        page.goto(server.url)
                        for view in VIEWS:
                            go(page, view)
                            page.wait_for_timeout(400)
                            looked_at(page, f"{'filled' if filled else 'empty'}-{scheme}-{size}-{view}")
        print("axe: 0 violations in 4 views, empty and filled, light and dark, at four sizes")


def all_of_it_by_keyboard(browser) -> None:
    """No mouse, no touch: every view is reached, a class made, photos collected, a lesson run and taken back."""
    def tab_to(page: Page, what: str, most: int = 60) -> None:
        for _ in range(most):
            page.keyboard.press("Tab")
            told = page.evaluate("(document.activeElement.getAttribute('aria-label') || document.activeElement.textContent).trim()")
            if told.startswith(what):
                return
        raise AssertionError(f"{what} is not reached")

    with served(*camera(DEMO / "val/7")) as server, opened(browser, **DESKTOP) as page:
        for photo in photos("0", 10):
            server.ask("/api/photos?class=0", photo.read_bytes())
        page.goto(server.url)
        expect(page.locator("#title-see")).to_be_visible()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
        tab_to(page, "Collect")
        page.keyboard.press("Enter")
        tab_to(page, "+ New class")
        page.keyboard.press("Enter")
        page.keyboard.type("seven")
        page.keyboard.press("Enter")
        expect(page.locator('.chip[data-name="seven"]')).to_be_visible()
        shows_a_camera(page)
        tab_to(page, "Hold to collect") if page.evaluate("document.activeElement.textContent") != "Hold to collect" else None
        page.keyboard.down(" ")
        page.wait_for_timeout(2500)
        page.keyboard.up(" ")
        expect(page.locator("#view-collect .grid li").nth(3)).to_be_visible()
        tab_to(page, "Photo ")
        page.keyboard.press(" ")
        expect(page.get_by_text("1 chosen")).to_be_visible()
        page.keyboard.press("Shift+Tab")
        page.reload()
        tab_to(page, "Learn")
        page.keyboard.press("Enter")
        expect(page.get_by_text("takes about")).to_be_visible()
        tab_to(page, "Learn")
        page.keyboard.press("Enter")
        expect(page.locator(".verdict")).to_be_visible(timeout=120_000)
        page.keyboard.press("Home")
        page.reload()
        tab_to(page, "Undo")
        page.keyboard.press("Enter")
        expect(page.locator(".line li").first).to_be_visible()
        tab_to(page, "Go back to this: 1")
        page.keyboard.press("Enter")
        expect(page.locator(".line li").first).to_contain_text("3.")
        print("all by keyboard: a class, photos, a lesson, a way back")


def collect_green(page: Page) -> None:
    """A class of what the browser's made-up camera shows, by keyboard."""
    make(page, "green")
    page.get_by_role("button", name="Use this browser's camera").click()
    hold = page.get_by_role("button", name="Hold to collect")
    hold.focus()
    page.keyboard.down(" ")
    expect(page.locator("#view-collect .grid li").nth(2)).to_be_visible()
    page.keyboard.up(" ")


def the_browsers_own_camera_on_a_secure_origin(browser) -> None:
    with served() as server, opened(browser, permissions=["camera"], **DESKTOP) as page:
        page.goto(server.at("localhost") + "#collect")
        collect_green(page)
        go(page, "see")
        page.get_by_role("button", name="This browser's camera").click()
        expect(page.locator(".bar.first .name")).to_have_text("green")


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A certificate of `pi.local` that it has signed itself, and its key."""
    made = [str(folder / f"{name}.{end}") for end in ("pem", "key")]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1", "-out", made[0], "-keyout", made[1]]
    subprocess.run(command, check=True, capture_output=True)
    return made[0], made[1]


def with_a_certificate_all_is_encrypted_and_the_camera_works(browser) -> None:
    folder = Path(tempfile.mkdtemp())
    own, key = certificate(folder, "own")
    _, other = certificate(folder, "other")
    refused = ["serve", str(DEMO / "handwriting.bundle"), "--store", str(folder / "s"), "--photos", str(folder / "p")]
    refused = subprocess.run([args.program, *refused, "--tls-cert", own, "--tls-key", other], capture_output=True, text=True)
    assert refused.returncode == 2 and "do not make an identity" in refused.stderr, refused.stderr
    with served("--token", str(folder / "token"), "--tls-cert", own, "--tls-key", key) as server:
        assert server.url.startswith("https://"), server.url
        # Another implementation: with its certificate in hand, OpenSSL trusts it, and nothing but TLS 1.3 is spoken.
        trusting = ssl.create_default_context(cafile=own)
        for version, is_spoken in [(ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_2, False)]:
            trusting.minimum_version = trusting.maximum_version = version
            try:
                with socket.create_connection(("127.0.0.1", int(server.port))) as plain, trusting.wrap_socket(plain, server_hostname=NAME):
                    assert is_spoken, version
            except ssl.SSLError:
                assert not is_spoken, version
        with socket.create_connection(("127.0.0.1", int(server.port))) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"HTTP" not in plain.recv(1000), "nothing is told without TLS"
        with opened(browser, permissions=["camera"], ignore_https_errors=True, **PHONE) as page:
            page.goto(server.at(NAME))
            page.wait_for_url(f"https://{NAME}:{server.port}/")
            assert page.evaluate("isSecureContext")
            go(page, "collect")
            assert [cookie["secure"] for cookie in page.context.cookies()] == [True]
            collect_green(page)
            looked_at(page, "phone-encrypted")
    shutil.rmtree(folder)


def whoever_is_not_paired_is_told(browser) -> None:
    with served("--token", str(Path(tempfile.mkdtemp()) / "token")) as server:
        context = browser.new_context(**PHONE)
        page = context.new_page()
        page.goto(f"http://{NAME}:{server.port}/")
        expect(page.get_by_role("heading")).to_have_text("This browser is not paired")
        looked_at(page, "phone-locked")
        context.close()


def picture(browser, file: Path) -> None:
    """Three views side by side, as a phone shows them, for the documentation."""
    shown = dict(zip("0179", ["zero", "one", "seven", "nine"]))
    with tempfile.TemporaryDirectory() as frames, served(*camera(Path(frames))) as server, opened(browser, **PHONE) as page:
        shutil.copy(photos("7", 1, "val")[0], frames)
        for digit, name in shown.items():
            for photo in photos(digit, 12) + photos(digit, 14, "val")[1:]:
                server.ask(f"/api/photos?class={name}", photo.read_bytes())
        page.goto(server.url)
        go(page, "learn")
        page.get_by_role("button", name="Learn", exact=True).click()
        expect(page.locator(".verdict")).to_contain_text(re.compile("^Kept[.:]"), timeout=120_000)
        page.locator(".matrix").scroll_into_view_if_needed()
        views = [page.screenshot()]
        go(page, "collect")
        page.locator('.chip[data-name="seven"]').click()
        expect(page.locator("#view-collect .grid li").first).to_be_visible()
        views.insert(0, page.screenshot())
        go(page, "see")
        expect(page.locator(".bar.first .name")).to_have_text("seven")
        page.wait_for_timeout(2000)
        views.insert(0, page.screenshot())
    views = [Image.open(io.BytesIO(view)).convert("RGB") for view in views]
    (width, height), gap = views[0].size, 40
    whole = Image.new("RGB", (len(views) * (width + gap) - gap, height), "white")
    for nth, view in enumerate(views):
        whole.paste(view, (nth * (width + gap), 0))
    whole.resize((whole.width // 2, whole.height // 2)).quantize(64).save(file, optimize=True)


def main() -> None:
    flags = ["--no-sandbox", f"--host-resolver-rules=MAP {NAME} 127.0.0.1", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    if args.working_tree:  # files that do not come from the device itself are taken for a public page's
        flags.append("--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=flags)
        if args.picture:
            picture(browser, args.picture)
            return
        for check in (
            a_newcomer_with_a_phone,
            a_class_appears_while_it_is_collected,
            photos_are_put_in_order,
            a_camera_that_fails_says_why,
            folders_are_dropped,
            what_a_photo_tells_of_its_place_stays_with_the_phone,
            every_view_is_for_everybody,
            all_of_it_by_keyboard,
            the_browsers_own_camera_on_a_secure_origin,
            with_a_certificate_all_is_encrypted_and_the_camera_works,
            whoever_is_not_paired_is_told,
        ):
            begin = time.monotonic()
            if args.only not in check.__name__:
                continue
            check(browser)
            print(f"-- {check.__name__.replace('_', ' ')}: {time.monotonic() - begin:.0f} s", flush=True)
        browser.close()


main()
