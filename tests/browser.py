"""Pages as a real browser lays them out: how wide they are, what is cut off, what they load, what the console says."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

__all__ = ["WIDTHS", "Looks", "browser", "look"]

WIDTHS = (390, 1280)
"""CSS pixels: a phone held upright, and a laptop."""
_NAMES = (
    "chromium-headless-shell",
    "chrome-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)
_SCHEMES = {"dark": 0, "light": 1}
_SCRIPT = """
function look(frame) {
  const view = frame.contentWindow, page = view.document, cut = [];
  page.querySelectorAll("details").forEach(one => { one.open = true; });
  const width = page.documentElement.clientWidth;
  for (const drawing of page.querySelectorAll("svg[role=img]")) {
    const box = drawing.getBoundingClientRect();
    for (const text of drawing.querySelectorAll("text")) {
      const at = text.getBoundingClientRect();
      if (at.left < box.left - 1 || at.right > box.right + 1 || at.top < box.top - 1 || at.bottom > box.bottom + 1)
        cut.push(`${drawing.getAttribute("aria-label")}: ${text.textContent}`);
    }
  }
  for (const one of page.querySelectorAll("body *")) {
    const hidden = view.getComputedStyle(one).overflowX === "hidden" && one.scrollWidth > one.clientWidth + 1;
    const beyond = one.getBoundingClientRect().right > width + 1 && !one.closest(".scroll, pre, svg");
    if ((hidden && !one.closest("svg")) || beyond) cut.push(`<${one.tagName} class=${one.className}>`);
  }
  return {
    width, scroll_width: page.scrollingElement.scrollWidth, cut,
    dark: view.matchMedia("(prefers-color-scheme: dark)").matches,
    background: view.getComputedStyle(page.body).backgroundColor,
    smallest_text: Math.min(...[...page.querySelectorAll("svg[role=img] text")].map(
      one => parseFloat(view.getComputedStyle(one).fontSize) * Math.hypot(one.getScreenCTM().a, one.getScreenCTM().b))),
    loaded: view.performance.getEntriesByType("resource").map(one => one.name),
  };
}
addEventListener("load", () => {
  const found = {};
  document.querySelectorAll("iframe").forEach(frame => { found[frame.name] = look(frame); });
  document.getElementById("found").textContent = JSON.stringify(found);
});
"""


@dataclass(frozen=True)
class Looks:
    """What was found of pages in one colour scheme.

    Attributes:
        pages: Of each page at each width: `width` and `scroll_width` (CSS pixels), `cut` (what is not seen whole),
            `dark`, `background`, `smallest_text` (CSS pixels, of drawings), `loaded` (what was asked for elsewhere).
        console: Lines of the browser's console.
    """

    pages: dict[tuple[str, int], dict[str, Any]]
    console: list[str]


def browser() -> str:
    """A Chromium: the one that CHROMIUM names, or one on PATH. Skips the test where there is none."""
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(_NAMES)} is on PATH, and CHROMIUM names none")
    return found


def look(pages: Mapping[str, str], scheme: str, folder: Path) -> Looks:
    """Lays pages out, each in a frame of each width, with one start of the browser."""
    frames = "".join(
        f'<iframe name="{name}@{width}" style="width: {width}px; height: 900px; border: 0; color-scheme: {scheme}" '
        f'srcdoc="{escape(page)}"></iframe>\n'
        for name, page in pages.items()
        for width in WIDTHS
    )
    host = folder / f"{scheme}.html"
    style = "<style>:root { color-scheme: light dark; }</style>"
    host.write_text(
        f'<!doctype html><meta charset="utf-8">{style}{frames}<pre id="found"></pre><script>{_SCRIPT}</script>',
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            browser(),
            "--headless",
            *(["--no-sandbox"] if os.geteuid() == 0 else []),
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={folder / f'profile-{scheme}'}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--blink-settings=preferredColorScheme={_SCHEMES[scheme]}",
            "--window-size=1400,1000",
            "--enable-logging=stderr",
            "--dump-dom",
            host.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    told = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert told is not None and told[1], done.stderr
    found = json.loads(unescape(told[1]))
    return Looks(
        {(name.rpartition("@")[0], int(name.rpartition("@")[2])): one for name, one in found.items()},
        [line for line in done.stderr.splitlines() if "CONSOLE" in line],
    )
