# The error of a batching rule of the user's own, csrc/rule.c: a part of _core.pyx.

cdef int _raise_bad_rule(const rmf_run *run, str where) except -1:
    """Raise ValueError if the rule of the policy returned nonsense; `where` ends the sentence."""
    if run.error != RMF_RUN_BAD_RULE:
        return 0
    raise ValueError(
        f"policy.rule: must return from 1 to {run.bad_rule.left}, the pages left in folio {run.bad_rule.folio} at vpn"
        f" {run.bad_rule.vpn}{where}, got {run.bad_rule.nr}"
    )
