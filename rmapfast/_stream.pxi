# Reclaim of described populations block by block. A part of _core.pyx, which includes it.

@cython.final
cdef class Stream:
    """A described population under one policy on one architecture, of which one block at a time is in memory."""

    cdef rmf_stream *stream
    cdef uint64_t pages

    def __dealloc__(self):
        rmf_stream_free(self.stream)

    def __init__(self, spec, policy, arch, *, swap, cpumask, fast, cont_ptes=None):
        cdef rmf_description what
        cdef rmf_arch a
        cdef rmf_policy p
        if self.stream != NULL:
            raise ValueError("a Stream is made once; make a new one")
        memset(&a, 0, sizeof(a))
        memset(&p, 0, sizeof(p))
        _fill_description(&what, spec, cont_ptes)
        _fill_arch(&a, arch)
        _fill_policy(&p, policy)
        self.pages = what.pages
        self.stream = rmf_stream_new(&what, &a, &p, swap, cpumask, _isa(), fast)
        if self.stream == NULL:
            raise MemoryError

    def visit(self, first, end, number, passes=1, limit=None):
        """Take pages [first, end) through `passes` passes (1 or 2) from `number` (from 1) on.

        A single pass ends after `limit` folios; two have no limit. Returns for each pass how many folios were visited,
        a log for :meth:`Loop.account`, and what was counted: events, the part of the reference checks, batch lengths.
        The second pass is left out where the rule of the policy returned nonsense in it.
        """
        cdef uint64_t a = first, b = end, n = UINT64_MAX if limit is None else limit
        cdef uint32_t k = number, nr = passes, made
        if not 0 <= first < end <= self.pages or any(at % RMF_LAYOUT_BLOCK and at != self.pages for at in (first, end)):
            raise ValueError(
                f"first, end: expected multiples of {RMF_LAYOUT_BLOCK} up to {self.pages}, got {first}, {end}"
            )
        if not 1 <= nr <= RMF_STREAM_PASSES or (nr > 1 and limit is not None):
            raise ValueError(f"passes: expected 1 to {RMF_STREAM_PASSES}, and 1 with a limit, got {passes}")
        with nogil:
            made = rmf_stream_visit(self.stream, a, b, k, nr, n)
        if not made:
            raise MemoryError
        _raise_bad_rule(rmf_stream_run(self.stream, 0), "")
        return [self._visited(i) for i in range(made)]

    cdef _visited(self, uint32_t i):
        cdef uint64_t nr, size
        cdef uint8_t *packed
        cdef const rmf_visits *entries = rmf_stream_log(self.stream, i, &nr)
        cdef const rmf_run *run = rmf_stream_run(self.stream, i)
        with nogil:
            size = rmf_pack_log(entries, nr, NULL)
        log = np.empty(size, np.uint8)
        packed = <uint8_t *>cnp.PyArray_DATA(log)
        with nogil:
            rmf_pack_log(entries, nr, packed)
        visited = rmf_stream_visited(self.stream, i)
        return visited, log, _counts(run.ev), _counts(run.referenced_ev), _lengths(run.batch_lengths)


@cython.final
cdef class Loop:
    """The reclaim loop without the visits. At first `folios` of `pages` in all are on its inactive list."""

    cdef rmf_run *run
    cdef rmf_reclaim reclaim

    def __cinit__(self):
        self.run = <rmf_run *>PyMem_Calloc(1, sizeof(rmf_run))
        if self.run == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.run)

    def __init__(self, arch, policy, folios, pages, target_pages):
        _fill_arch(&self.run.arch, arch)
        _fill_policy(&self.run.policy, policy)
        rmf_reclaim_start_accounting(&self.reclaim, self.run, folios, pages, target_pages)

    def account(self, cnp.ndarray log):
        """Take a log of the next visits; returns how many of them the loop comes to."""
        _checked("log", log, cnp.NPY_UINT8, False)
        cdef uint64_t nr = cnp.PyArray_SIZE(log), done
        cdef const uint8_t *packed = <const uint8_t *>cnp.PyArray_DATA(log)
        with nogil:
            done = rmf_reclaim_account_log(&self.reclaim, packed, nr)
        return done

    def goes_on(self):
        """Whether there is more to do. The active list, which a stream does not have, may be next."""
        return rmf_reclaim_advance(&self.reclaim) != RMF_NEXT_END

    def turns_to_active(self):
        """Whether the active list is next."""
        return rmf_reclaim_advance(&self.reclaim) == RMF_NEXT_ACTIVE

    @property
    def isolated(self):
        return _lengths(self.run.isolated, RMF_MAX_ISOLATED_PAGES)

    @property
    def freed_pages(self):
        return self.reclaim.freed

    @property
    def events(self):
        return _counts(self.run.ev)
