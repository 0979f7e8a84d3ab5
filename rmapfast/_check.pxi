# The checker, csrc/check_*.c: a part of _core.pyx.

INVARIANTS = tuple(rmf_invariant_name(<rmf_invariant>i).decode() for i in range(<int>RMF_NR_INVARIANTS))
CHECK_KINDS = ("file", "shmem", "lazyfree", "anon")
CHECK_LEVELS = ("all bits", "reacting bits", "few", "drawn")
# What may be claimed of bits that count: the truth, and an error that a test plants.
CLAIMS = ("right", "first is counted")


@cython.final
cdef class CheckScope:
    """The families of states of rmf_check_scope_init()."""

    cdef rmf_check_scope *scope

    def __cinit__(self):
        self.scope = <rmf_check_scope *>PyMem_Calloc(1, sizeof(rmf_check_scope))
        if self.scope == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.scope)

    def __init__(self, max_pages, all_bits, unreachable, drawn, seed):
        rmf_check_scope_init(self.scope, max_pages, all_bits, unreachable, drawn, seed)

    def __len__(self):
        return self.scope.nr_families

    cdef rmf_check_family *_family(self, family) except NULL:
        if not 0 <= family < self.scope.nr_families:
            raise IndexError(f"family: expected 0 to {self.scope.nr_families - 1}, got {family}")
        cdef Py_ssize_t index = family
        return &self.scope.families[index]

    def family(self, family):
        """What the family holds, as a dict."""
        cdef rmf_check_family *f = self._family(family)
        return {
            "pages": 1 << f.order,
            "kind": CHECK_KINDS[<int>f.kind],
            "bits": CHECK_LEVELS[<int>f.level],
            "anon_vma": bool(f.anon_vma),
            "uffd_wp": bool(f.uffd_wp),
            "folded": f.cont > 1,
            "symbols": f.nr_symbols,
            "conditions": f.nr_conditions,
            "exclusive": f.nr_exclusive,
            "states": f.nr_states,
        }

    def state(self, family, index):
        """State `index` of a family as plain numbers, or None if it is the same as another state."""
        cdef rmf_check_state state
        cdef rmf_check_family *f = self._family(family)
        cdef Py_ssize_t i
        if not 0 <= index < f.nr_states:
            raise IndexError(f"index: expected 0 to {f.nr_states - 1}, got {index}")
        if not rmf_check_state_at(f, index, &state):
            return None
        pages = 1 << state.order
        return {
            "ptes": [state.ptes[i] for i in range(2 * <Py_ssize_t>state.table)],
            "first_vpn": state.table,
            "ptrs_per_pte": state.table,
            "cont_ptes": state.cont,
            "vma": (state.vma_start, state.vma_end, state.vma_pgoff, state.vma_flags),
            "folio_flags": state.folio_flags,
            "order": state.order,
            "refcount": state.refcount,
            "page_mapcount": [state.page_mapcount[i] for i in range(<Py_ssize_t>pages)],
            "page_flags": [state.page_flags[i] for i in range(<Py_ssize_t>pages)],
            "ttu": state.ttu,
            "guard": "contiguous" if state.guard_contiguous else "none",
        }

    def counted_bits(self, family, first, end, policy, arch, claim="right"):
        """Call rmf_check_counted_bits(); returns (states with bits to move, of these with another outcome, the first).
        """
        cdef rmf_check_family *f = self._family(family)
        cdef uint64_t a = first, b = end, tried
        cdef rmf_claim c_claim = <rmf_claim><int>CLAIMS.index(claim)
        cdef rmf_check_found found
        cdef rmf_arch c_arch
        cdef rmf_policy c_policy
        _fill_arch(&c_arch, arch)
        _fill_policy(&c_policy, policy)
        found.count = found.index = 0
        cdef rmf_check *check = rmf_check_new(&c_arch)
        if check == NULL:
            raise MemoryError
        with nogil:
            tried = rmf_check_counted_bits(check, f, a, b, &c_policy, c_claim, &found)
        try:
            _raise_bad_rule(rmf_check_current(check), f" of a state of folios with {1 << f.order} pages")
        finally:
            rmf_check_free(check)
        return tried, found.count, found.index

    def run(self, family, first, end, oracle, policies, arch):
        """Call rmf_check_range(); returns (distinct states tried, found).

        `found` has for each policy (states in violation, {invariant: (count, index of an example, whether a kernel can
        reach it)}, {batch length: batches}).
        """
        cdef rmf_check_family *f = self._family(family)
        cdef uint64_t a = first, b = end, tried
        cdef uint32_t n = len(policies), i
        cdef rmf_arch c_arch
        cdef rmf_policy c_oracle
        _fill_arch(&c_arch, arch)
        _fill_policy(&c_oracle, oracle)
        cdef rmf_check *check = rmf_check_new(&c_arch)
        cdef rmf_check_policy *found = <rmf_check_policy *>PyMem_Calloc(max(n, 1), sizeof(rmf_check_policy))
        try:
            if check == NULL or found == NULL:
                raise MemoryError
            for i in range(n):
                _fill_policy(&found[i].policy, policies[i])
            with nogil:
                tried = rmf_check_range(check, f, a, b, &c_oracle, found, n)
            _raise_bad_rule(rmf_check_current(check), f" of a state of folios with {1 << f.order} pages")
            return tried, [
                (
                    found[i].nr_violating,
                    {
                        INVARIANTS[j]: (
                            found[i].found[<Py_ssize_t>j].count,
                            found[i].found[<Py_ssize_t>j].index,
                            bool(found[i].found[<Py_ssize_t>j].reachable),
                        )
                        for j in range(<int>RMF_NR_INVARIANTS)
                        if found[i].found[<Py_ssize_t>j].count
                    },
                    {
                        nr: found[i].cleared[<Py_ssize_t>nr]
                        for nr in range((1 << f.order) + 1)
                        if found[i].cleared[<Py_ssize_t>nr]
                    },
                )
                for i in range(n)
            ]
        finally:
            rmf_check_free(check)
            PyMem_Free(found)
