"""Draw the pictures of the docs: the first screen of a finished study's page, in each language, and
its losses.

    python -m tools.page_pictures results/report.html docs/pictures

Needs ``chromium`` (or ``google-chrome``) on the PATH; nothing is fetched.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from siglip_study.base.errors import StudyError
from siglip_study.report.language import LANGUAGES

#: Figures of the study that the docs show as it drew them.
FIGURES = ("losses.svg",)
#: Pixels of the picture: what is seen of the page at first.
SIZE = (1366, 768)
#: Milliseconds that a page has to load its fonts and its clips.
PATIENCE_MS = 5000


def draw(page: Path, folder: Path) -> list[Path]:
    """Write ``report-<language>.png`` for each language of the page into ``folder``.

    Raises:
        StudyError: the page or a browser is missing, or the browser drew nothing.
    """
    if not page.is_file():
        raise StudyError(f"{page}: no such file; expected the page of a finished study.")
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if browser is None:
        raise StudyError("No browser is on the PATH; expected chromium or google-chrome.")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for language in LANGUAGES:
        out = (folder / f"report-{language}.png").resolve()
        out.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory() as profile:
            subprocess.run(
                [
                    browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                    "--no-first-run", "--disable-background-networking",
                    "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}",
                    f"--window-size={SIZE[0]},{SIZE[1]}", "--force-prefers-reduced-motion",
                    f"--virtual-time-budget={PATIENCE_MS}", f"--screenshot={out}",
                    f"{page.resolve().as_uri()}#lang={language}",
                ],
                check=False, capture_output=True,
            )  # fmt: skip
        if not out.is_file():
            raise StudyError(f"{out}: the browser {browser} drew no picture of {page}.")
        drawn.append(out)
    return drawn


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the pictures of the docs.")
    parser.add_argument("page", type=Path, help="report.html of a finished study")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    told = parser.parse_args()
    for path in draw(told.page, told.folder):
        print(path)
    for name in FIGURES:
        print(shutil.copy(told.page.parent / "figures" / name, told.folder))
