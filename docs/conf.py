"""The site. `make docs` builds it without the network, and every warning is an error."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rmapfast import __version__

project = "rmapfast"
author = copyright = "the rmapfast authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["case-studies/data/README.md"]
root_doc = "index"

# Pages link to each other's headings by the anchors that a repository's web view makes of them.
myst_heading_anchors = 4
# Commands and Python stand in indented blocks, as in README.md. Nothing guesses their language.
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"rmapfast {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False


def _explicit_anchors(app, docname, source):
    """Let links find the anchors that pages set as `<a id="...">`; MyST knows those of headings alone."""
    anchors = re.findall(r'<a id="([^"]+)"></a>', source[0])
    app.env.metadata[docname]["explicit_anchors"] = anchors
    for anchor in anchors:
        source[0] = source[0].replace(f"](#{anchor})", f"](/{docname}.md#{anchor})")


def _merge_anchors(app, doctree):
    found = app.env.metadata[app.env.docname]
    slugs = found.setdefault("myst_slugs", {})
    for anchor in found.pop("explicit_anchors", ()):
        slugs.setdefault(anchor, (None, anchor, ""))


def setup(app):
    """Connect what is above."""
    app.connect("source-read", _explicit_anchors)
    app.connect("doctree-read", _merge_anchors)
