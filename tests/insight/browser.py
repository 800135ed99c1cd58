"""A page as Chromium shows it."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")

# The page in a frame, which may be narrower than the narrowest window; what there is to know of it is left in <pre>.
FRAME = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<iframe id="page" style="border:0;display:block;width:{width}px;height:{height}px" srcdoc="{page}"></iframe>
<pre></pre><script>
const frame = document.getElementById("page"), out = document.querySelector("pre");
frame.onload = async () => {{
  const page = frame.contentDocument;
  const result = await (async () => {{ {script} }})().catch((error) => out.textContent = String(error.stack));
  page.querySelectorAll("details").forEach((each) => each.open = true);
  const outside = [...page.querySelectorAll("body *")].filter(
    (each) => !each.parentElement.closest(".scroll") && each.getBoundingClientRect().right > {width} + 1);
  out.textContent = JSON.stringify({{
    result,
    width: frame.contentWindow.innerWidth,
    scroll_width: page.documentElement.scrollWidth,
    height: page.documentElement.scrollHeight,
    outside: outside.map((each) => each.outerHTML.slice(0, 100)),
    requests: frame.contentWindow.performance.getEntriesByType("resource").map((each) => each.name),
  }});
}};
</script>"""


def chromium(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run Chromium with a profile in `folder`."""
    command = [str(CHROMIUM), *OPTIONS, "--enable-logging=stderr", f"--user-data-dir={folder}/profile", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def framed(page: Path, width: int, folder: Path, script: str = "", height: int = 800) -> Path:
    """A file with the page in a frame of a width in pixels, and a script that uses the page as `page`."""
    path = folder / f"{page.stem}.{width}.html"
    path.write_text(FRAME.format(width=width, height=height, script=script, page=html.escape(page.read_text())))
    return path


def seen(page: Path, width: int, folder: Path, script: str = "") -> dict:
    """What the script returns, sizes in pixels, what reaches over the right edge, requests, messages in the console."""
    done = chromium(folder, "--virtual-time-budget=60000", "--dump-dom", framed(page, width, folder, script).as_uri())
    (found,) = re.findall(r"<pre>(.*?)</pre><script>", done.stdout, re.DOTALL)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert found.startswith("{"), (found, console, done.stderr[-2000:])
    return json.loads(html.unescape(found)) | {"console": console}
