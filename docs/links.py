"""Check a built site: each link and anchor leads somewhere, and no page loads anything from the network.

``python docs/links.py FOLDER`` prints what is wrong, and ends with status 1 if anything is.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

# What a browser fetches by itself, by tag: the attribute with the address.
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src"}
# Relations of <link> that are fetched; the others only name a page.
FETCHED = {"stylesheet", "icon", "preload", "modulepreload"}


class Page(HTMLParser):
    """The addresses and the anchors of one page."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Collect what a tag names."""
        given = {name: value or "" for name, value in attributes}
        self.anchors.update(given[name] for name in ("id", "name") if name in given)
        fetched = tag != "link" or FETCHED & set(given.get("rel", "").split())
        if tag in LOADED and LOADED[tag] in given and fetched:
            self.loaded.append(given[LOADED[tag]])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])


def problems(folder: Path) -> list[str]:
    """Return a sentence for each address that leads nowhere, or out of the folder where it is loaded."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        name = path.relative_to(folder)
        for address in page.loaded:
            if urlsplit(address).netloc:
                found.append(f"{name}: loads {address}")
        for address in [*page.links, *page.loaded]:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            place, anchor = urldefrag(address)
            target = (path.parent / unquote(urlsplit(place).path)).resolve() if place else path
            if not target.exists():
                found.append(f"{name}: {address}: there is no such file")
            elif anchor and target in pages and unquote(anchor) not in pages[target].anchors:
                found.append(f"{name}: {address}: there is no such anchor")
    return found


def main(argv: list[str] | None = None) -> int:
    """Print what is wrong in the folder that is named."""
    (folder,) = sys.argv[1:] if argv is None else argv
    found = problems(Path(folder).resolve())
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
