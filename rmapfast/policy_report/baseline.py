"""What a policy is compared with, if nobody says: the kernel release whose rules are nearest to its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from rmapfast.editions import EDITIONS
from rmapfast.policy import AROUND_A_FUNCTION, PRESETS, Policy


def baseline_of(policy: Policy | Callable[..., Any]) -> Policy:
    """Return the policy that another one is compared with by default.

    Parameters
    ----------
    policy : Policy or callable

    Returns
    -------
    Policy
        Of a function, and of rules in C, the same policy without them. Else, of the releases before it (of what is no
        release: of all releases), the one that differs in the fewest fields; of several, the newest.
    """
    if not isinstance(policy, Policy):
        return PRESETS[AROUND_A_FUNCTION]
    if policy.rule or policy.young_rule:
        without = policy.replace(rule="", young_rule="", name="")
        same = (preset for preset in PRESETS.values() if preset.replace(name="") == without)
        return next(same, without.replace(name=f"{policy.name} without its rule"))
    dated = {edition.policy: edition.since for edition in EDITIONS if edition.since}
    own = dated.get(policy.name)
    older = [name for name, since in dated.items() if own is None or since < own]
    if not older:
        return PRESETS["per-page"]
    return PRESETS[min(reversed(older), key=lambda name: len(differing(policy, PRESETS[name])))]


def differing(policy: Policy, other: Policy) -> list[str]:
    """Return the names of the fields in which two policies differ, but for their names and texts."""
    names = [field.name for field in dataclasses.fields(Policy) if field.name not in ("name", "doc")]
    return [name for name in names if getattr(policy, name) != getattr(other, name)]
