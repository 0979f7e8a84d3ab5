# The error of a rule of the user's own, csrc/rule.c: a part of _core.pyx.

cdef int _raise_bad_rule(const rmf_run *run, str where) except -1:
    """Raise ValueError if a rule of the policy returned nonsense; `where` ends the sentence."""
    if run.error != RMF_RUN_BAD_RULE:
        return 0
    cdef const rmf_bad_rule *bad = &run.bad_rule
    field, what = "rule", "pages left in"
    if bad.young:
        field, what = "young_rule", "entries left of page table, VMA and"
    if bad.nr != bad.again:
        raise ValueError(
            f"policy.{field}: must return the same for the same call, got {bad.nr} and then {bad.again} for folio"
            f" {bad.folio} at vpn {bad.vpn}{where}"
        )
    raise ValueError(
        f"policy.{field}: must return from 1 to {bad.most}, the {what} folio {bad.folio} at vpn {bad.vpn}{where}, got"
        f" {bad.nr}"
    )
