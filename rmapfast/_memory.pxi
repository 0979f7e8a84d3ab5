# Memory of arrays, csrc/arena.c, and counts over those of a population, csrc/census.c: a part of _core.pyx.

@cython.final
cdef class _Block:
    """The memory of some arrays. It is used again when the last of them is gone, unless it came as zeroes."""

    cdef void *memory
    cdef size_t size
    cdef bint zeroes

    def __dealloc__(self):
        if self.memory != NULL:
            if self.zeroes:
                rmf_zeroes_give(self.memory, self.size)
            else:
                rmf_arena_give(self.memory, self.size)


cdef dict _new_arrays(dict wanted, bint zeroes):
    """Arrays in one block, by name, from {name: (shape, dtype)}."""
    cdef _Block block = _Block.__new__(_Block)
    cdef size_t total = 0, at = 0
    cdef cnp.npy_intp dims[2]
    dtypes = {name: np.dtype(dtype) for name, (_, dtype) in wanted.items()}
    sizes = {}
    for name, (shape, _) in wanted.items():
        if not 1 <= len(shape) <= 2 or min(shape) < 0:
            raise ValueError(f"{name}: expected one or two dimensions, got shape {shape}")
        # each begins at a cache line
        sizes[name] = -(-shape[0] * (shape[1] if len(shape) > 1 else 1) * dtypes[name].itemsize // 64) * 64
    total = sum(sizes.values())
    block.zeroes, block.size = zeroes, total
    block.memory = rmf_zeroes_take(total) if zeroes else rmf_arena_take(total, &block.size)
    if block.memory == NULL:
        raise MemoryError
    arrays = {}
    for name, (shape, _) in wanted.items():
        for i in range(len(shape)):
            dims[i] = shape[i]
        array = cnp.PyArray_SimpleNewFromData(len(shape), dims, dtypes[name].num, <char *>block.memory + at)
        cnp.set_array_base(array, block)
        arrays[name] = array
        at += sizes[name]
    return arrays


def empty_arrays(dict wanted):
    """Arrays with anything in them, by name, from {name: (shape, dtype)}."""
    return _new_arrays(wanted, False)


def zero_arrays(dict wanted):
    """The same, all zero. They take memory only where they are written."""
    return _new_arrays(wanted, True)


def census(population):
    """What a population holds: folios of each order and of each kind, the flags of all folios, whether a PMD leaf maps
    any, and the present PTEs. The kinds are by ANON and SWAPBACKED, the two lowest flags.
    """
    cdef rmf_census counts
    cdef rmf_population pop
    cdef cnp.ndarray ptes = _checked("population.ptes", population.held("ptes"), cnp.NPY_UINT64, False)
    cdef cnp.ndarray order = _checked("population.folio_order", population.held("folio_order"), cnp.NPY_UINT8, False)
    cdef cnp.ndarray flags = _checked("population.folio_flags", population.held("folio_flags"), cnp.NPY_UINT32, False)
    cdef cnp.ndarray entire = _checked(
        "population.folio_entire_mapcount", population.held("folio_entire_mapcount"), cnp.NPY_INT32, False
    )
    cdef list pins = []
    for array in (ptes, order, flags, entire):
        _pin(pins, array)
    for name, array in (("folio_flags", flags), ("folio_entire_mapcount", entire)):
        if len(array) != len(order):
            raise ValueError(f"population.{name}: expected {len(order)} elements, got {len(array)}")
    pop.ptes, pop.nr_ptes = <uint64_t *>cnp.PyArray_DATA(ptes), ptes.shape[0]
    pop.folio_order = <uint8_t *>cnp.PyArray_DATA(order)
    pop.folio_flags = <uint32_t *>cnp.PyArray_DATA(flags)
    pop.folio_entire_mapcount = <int32_t *>cnp.PyArray_DATA(entire)
    pop.nr_folios = order.shape[0]
    with nogil:
        rmf_population_census(&pop, &counts)
    orders = {i: counts.folios_of_order[i] for i in range(256) if counts.folios_of_order[i]}
    return orders, [counts.folios_of_kind[i] for i in range(4)], counts.flags, bool(counts.entire), counts.ptes_present


def listed_pages(population):
    """The base pages of the folios on the LRU lists; entries that are no folio are passed over."""
    cdef cnp.ndarray order = _checked("population.folio_order", population.held("folio_order"), cnp.NPY_UINT8, False)
    cdef cnp.ndarray folios
    cdef rmf_population pop
    cdef const uint32_t *numbers
    cdef uint64_t pages = 0, nr
    cdef list pins = []
    _pin(pins, order)
    pop.folio_order, pop.nr_folios = <uint8_t *>cnp.PyArray_DATA(order), order.shape[0]
    for name in ("lru_inactive", "lru_active"):
        folios = _checked(f"population.{name}", population.held(name), cnp.NPY_UINT32, False)
        _pin(pins, folios)
        numbers, nr = <uint32_t *>cnp.PyArray_DATA(folios), folios.shape[0]
        with nogil:
            pages += rmf_listed_pages(&pop, numbers, nr)
    return pages
