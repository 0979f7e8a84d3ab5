# What is asked of an array before C gets it, and how an error of C is raised: a part of _core.pyx.

from weakref import ref as _weak_reference


cdef int _raise_error(int error, const rmf_fault *fault) except -1:
    """Raise what an error code of C stands for; 0 raises nothing."""
    if error == RMF_ENOMEM:
        raise MemoryError
    if error:
        raise ValueError(f"{fault.array.decode()}[{fault.index}]: {fault.rule.decode()}")
    return 0


cdef object _checked(str name, object array, int typenum, bint writable, int ndim=1):
    """Return the array if C can use it as it is. The error says how to convert it."""
    cdef cnp.dtype want = cnp.PyArray_DescrFromType(typenum)
    if type(array) is not np.ndarray:  # what a subclass holds may be something else than its memory
        raise TypeError(f"{name}: expected a NumPy array of {want}, got {type(array).__name__}")
    if array.dtype != want or not cnp.PyArray_ISCARRAY_RO(array) or array.ndim != ndim:
        raise TypeError(
            f"{name}: expected a C-contiguous {want} array of {ndim} dimension(s), got {array.dtype.str} with shape"
            f" {array.shape} and strides {array.strides}; convert with np.ascontiguousarray({name}, np.{want})"
        )
    if writable and not array.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one; pass {name}.copy()")
    return array


cdef _pin(list pins, array):
    """Keep NumPy from moving the memory of an array: ndarray.resize() refuses one that has a weak reference."""
    while isinstance(array, np.ndarray):
        pins.append(_weak_reference(array))
        array = <object>cnp.PyArray_BASE(array) if cnp.PyArray_BASE(array) != NULL else None


cdef enum:
    MOST_ARRAYS = 64  # twice as many as a run has


cdef int _check_apart(list names, list arrays, set written) except -1:
    """Raise ValueError if an array that a run writes shares memory with another one."""
    cdef Py_ssize_t n = 0, i, j
    cdef size_t start, end
    cdef size_t starts[MOST_ARRAYS]
    cdef size_t ends[MOST_ARRAYS]
    cdef bint writes[MOST_ARRAYS]
    cdef int number[MOST_ARRAYS]
    if len(arrays) > MOST_ARRAYS:
        raise RuntimeError(f"_check_apart() has room for {MOST_ARRAYS} arrays, got {len(arrays)}")
    for i, array in enumerate(arrays):
        start = <size_t>cnp.PyArray_DATA(array)
        end = start + cnp.PyArray_NBYTES(array)
        if start == end:
            continue
        for j in range(n):
            if start < ends[j] and starts[j] < end and (writes[j] or names[i] in written):
                raise ValueError(
                    f"population.{names[number[j]]}, population.{names[i]}: expected memory of their own, as a run"
                    f" writes one of them, got arrays that share memory; pass a copy() of one"
                )
        starts[n], ends[n], writes[n], number[n] = start, end, names[i] in written, i
        n += 1
    return 0
