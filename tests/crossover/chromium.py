"""Pages as headless Chromium lays them out, in frames as wide as a phone or a screen: measured, not guessed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
# It must show up among the page's messages, so that their silence means something.
PROBE = "the probe of messages"
# Run in the outer page, once all frames are there. What it returns, for each frame, is `Measured.raw`.
_SCRIPT = """
const box = (element) => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
const words = (element, inSvg) => {
  const style = element.ownerDocument.defaultView.getComputedStyle(element);
  const scale = inSvg ? element.getScreenCTM().a : 1;
  return {text: element.textContent.trim(), box: box(element), px: parseFloat(style.fontSize) * scale,
          colour: inSvg ? style.fill : style.color};
};
const measure = (frame) => {
  const page = frame.contentDocument, root = page.documentElement;
  const all = (query) => [...page.querySelectorAll(query)];
  return {
    width: root.clientWidth, scrollWidth: root.scrollWidth,
    background: frame.contentWindow.getComputedStyle(page.body || root).backgroundColor,
    pictures: all("svg").map((svg) => (
      {box: box(svg), texts: [...svg.querySelectorAll("text")].map((text) => words(text, true))})),
    words: all("h1, h2, p, li, figcaption, caption, th, td").map((element) => words(element, false)),
    tables: all(".scrolled").map((table) => ({
      box: box(table), width: table.clientWidth, scrollWidth: table.scrollWidth,
      cells: [...table.querySelectorAll("td, tbody th")].map(box)})),
    loaded: frame.contentWindow.performance.getEntriesByType("resource").map((entry) => entry.name),
    scripts: all("script").length,
  };
};
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) found[frame.name] = measure(frame);
  console.error("PROBE");
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.replaceChildren(out);
});
""".replace("PROBE", PROBE)


@dataclass(frozen=True)
class Measured:
    """What a run found: for each frame its measures, and what any page had to say to the console."""

    frames: dict[str, dict[str, Any]]
    console: list[str]


def program() -> str | None:
    """Chromium's path; None: it is not installed."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def measure(
    pages: Mapping[str, str], sizes: Mapping[str, tuple[int, int]], folder: Path, *, is_dark: bool = False
) -> Measured:
    """Lays each page out at each size, all in one start of the program; frames are named `page @ size`."""
    frames = "".join(
        f'<iframe name="{escape(f"{name} @ {size}")}" width="{width}" height="{height}" style="border:0" '
        f'srcdoc="{escape(html)}"></iframe>'
        for name, html in pages.items()
        for size, (width, height) in sizes.items()
    )
    folder.mkdir(parents=True, exist_ok=True)
    outer = folder / "outer.html"
    head = '<!DOCTYPE html><meta charset="utf-8"><meta name="color-scheme" content="light dark">'
    outer.write_text(f"{head}<script>{_SCRIPT}</script><body>{frames}</body>", encoding="utf-8")
    path = program()
    assert path is not None
    command = [path, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"]
    command += [f"--blink-settings=preferredColorScheme={0 if is_dark else 1}", "--dump-dom", outer.as_uri()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, encoding="utf-8")
    _, _, rest = ran.stdout.partition('<pre id="found">')
    assert rest, ran.stderr[-2000:]
    found = json.loads(unescape(rest.partition("</pre>")[0]))
    return Measured(found, [line for line in ran.stderr.splitlines() if "CONSOLE" in line])


def contrast(one: str, other: str) -> float:
    """How far two colours are apart for the eye, as the Web Content Accessibility Guidelines reckon it: 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
