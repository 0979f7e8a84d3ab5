"""General helpers: checks of arguments, atomic file writes, text formatting, and undoing changes outside the process.

Nothing here knows of memory or kernels.
"""

from rmapfast.support.arguments import (
    Seed,
    checked_boolean,
    checked_choice,
    checked_integer,
    checked_rate,
    checked_seed,
    closest,
    flag_mask,
    format_size,
    parse_size,
)
from rmapfast.support.files import (
    check_apart,
    check_writable,
    lock_file,
    open_regular,
    read_regular,
    replace_file,
    write_atomically,
    write_together,
)
from rmapfast.support.html import Figure, HtmlPart, Share, html_of
from rmapfast.support.json_object import JsonObject, json_text, read_json
from rmapfast.support.log import info, listening
from rmapfast.support.packages import data_frame, dataset, imported
from rmapfast.support.progress import ProgressBar, ProgressLine
from rmapfast.support.text import (
    between,
    change,
    changed_fields,
    decimals,
    hanging,
    listed,
    number,
    one_line,
    paragraph,
    price_scale,
    price_text,
    printable,
    ratio,
    short_repr,
    signed,
    with_printable_texts,
)
from rmapfast.support.undo import undone

__all__ = [
    "Figure",
    "HtmlPart",
    "JsonObject",
    "ProgressBar",
    "ProgressLine",
    "Seed",
    "Share",
    "between",
    "change",
    "changed_fields",
    "check_apart",
    "check_writable",
    "checked_boolean",
    "checked_choice",
    "checked_integer",
    "checked_rate",
    "checked_seed",
    "closest",
    "data_frame",
    "dataset",
    "decimals",
    "flag_mask",
    "format_size",
    "hanging",
    "html_of",
    "imported",
    "info",
    "json_text",
    "listed",
    "listening",
    "lock_file",
    "number",
    "one_line",
    "open_regular",
    "paragraph",
    "parse_size",
    "price_scale",
    "price_text",
    "printable",
    "ratio",
    "read_json",
    "read_regular",
    "replace_file",
    "short_repr",
    "signed",
    "undone",
    "with_printable_texts",
    "write_atomically",
    "write_together",
]
