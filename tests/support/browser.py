"""A headless Chromium with the network blocked, driven over its debugging pipe."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
#: Seconds that any one answer may take, on a busy machine.
PATIENCE_S = 120.0


class Browser:
    """One browser process; each :meth:`open` is a page of its own."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()

        def as_3_and_4() -> None:
            # Above all four first, so that none of them is overwritten.
            reading, writing = os.dup(to_browser), os.dup(from_browser)
            os.dup2(reading, 3)
            os.dup2(writing, 4)

        self._process = subprocess.Popen(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-dev-shm-usage", "--disable-background-networking", "--hide-scrollbars",
                "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank",
            ],
            pass_fds=(3, 4, to_browser, from_browser), preexec_fn=as_3_and_4,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        self._left, self._number = b"", 0
        self.events: list[dict[str, Any]] = []

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send one command of the DevTools protocol and wait for its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        sent = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while sent:
            sent = sent[os.write(self._write, sent) :]
        deadline = time.monotonic() + PATIENCE_S
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._left:
            if not select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser did not answer")
            self._left += os.read(self._read, 1 << 20)
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path, fragment: str = "", **settings: Any) -> Tab:
        """Open a file; ``settings`` are those of :class:`Tab`."""
        return Tab(self, page, fragment, **settings)


class Tab:
    """A page as a reader sees it, with what it logged and what it asked the network for."""

    def __init__(
        self,
        browser: Browser,
        page: Path,
        fragment: str = "",
        *,
        size: tuple[int, int] = (1366, 768),
        dark: bool = False,
        scripts: bool = True,
    ) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Performance"):
            self.call(f"{domain}.enable")
        # A phone's width is its own, not a narrow window's.
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.call("Emulation.setEmulatedMedia", features=[scheme, still])
        if not scripts:
            self.call("Emulation.setScriptExecutionDisabled", value=True)
        self.go(page.as_uri() + fragment)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def go(self, address: str) -> None:
        """Open an address and wait until it is loaded."""
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression, awaited where it is a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            told = answer["exceptionDetails"]
            raise RuntimeError(told.get("exception", {}).get("description", told["text"]))
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Ask until the expression is true, and return what it is."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self.run(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"never true: {expression}")
        return found

    def press(self, key: str, text: str = "") -> None:
        """One key, as from a keyboard: ``ArrowRight``, ``Tab``, ``Enter``."""
        codes = {"Enter": 13, "Tab": 9, "ArrowLeft": 37, "ArrowRight": 39, " ": 32, "Escape": 27}
        told = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}
        text = text or {"Enter": "\r", " ": " "}.get(key, "")
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
        self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    def write(self, text: str) -> None:
        """Text into the field that has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def pdf(self) -> bytes:
        """The page on A4 paper."""
        shape = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
        return base64.b64decode(self.call("Page.printToPDF", **shape)["data"])

    def figures(self) -> dict[str, float]:
        """The browser's own figures, among them ``Nodes`` and ``JSHeapUsedSize``."""
        rows = self.call("Performance.getMetrics")["metrics"]
        return {row["name"]: row["value"] for row in rows}

    def _events(self, method: str) -> list[dict[str, Any]]:
        self.run("0")  # all that came before this answer has been read
        return [
            event["params"]
            for event in self._browser.events
            if event.get("method") == method and event.get("sessionId") == self._session
        ]

    @property
    def console(self) -> list[str]:
        """Everything the page logged, warned or threw."""
        logged = [
            " ".join(str(a.get("value", a.get("description"))) for a in event["args"])
            for event in self._events("Runtime.consoleAPICalled")
        ]
        thrown = [e["exceptionDetails"]["text"] for e in self._events("Runtime.exceptionThrown")]
        told = [event["entry"]["text"] for event in self._events("Log.entryAdded")]
        return logged + thrown + told

    @property
    def requests(self) -> list[str]:
        """Addresses that the page asked for, but for itself and what it holds."""
        asked = [e["request"]["url"] for e in self._events("Network.requestWillBeSent")]
        return [url for url in asked if not url.startswith(("data:", "file:", "blob:", "about:"))]

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
