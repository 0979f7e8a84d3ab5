"""General helpers: checks of arguments, atomic file writes, text formatting, and undoing changes outside the process.

Nothing here knows of memory or kernels.
"""

from rmapfast.support.arguments import (
    checked_boolean,
    checked_choice,
    checked_integer,
    checked_rate,
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
from rmapfast.support.json_object import JsonObject, json_text, read_json
from rmapfast.support.text import (
    change,
    decimals,
    hanging,
    listed,
    number,
    one_line,
    paragraph,
    price_scale,
    printable,
    printable_json,
    ratio,
)
from rmapfast.support.undo import undone

__all__ = [
    "JsonObject",
    "change",
    "check_apart",
    "check_writable",
    "checked_boolean",
    "checked_choice",
    "checked_integer",
    "checked_rate",
    "closest",
    "decimals",
    "flag_mask",
    "format_size",
    "hanging",
    "json_text",
    "listed",
    "lock_file",
    "number",
    "one_line",
    "open_regular",
    "paragraph",
    "parse_size",
    "price_scale",
    "printable",
    "printable_json",
    "ratio",
    "read_json",
    "read_regular",
    "replace_file",
    "undone",
    "write_atomically",
    "write_together",
]
