"""The scheduler's compiled kernel. The same functions as ``_fastsched_py``, which says what they mean."""

import numpy as np


def fitting(const long long[:, ::1] free, const long long[::1] need, const unsigned char[::1] allowed):
    """Indices of hosts that have room."""
    cdef Py_ssize_t classes = free.shape[0]
    cdef Py_ssize_t hosts = free.shape[1]
    if need.shape[0] != classes or allowed.shape[0] != hosts:
        raise ValueError("columns differ in length")
    out = np.empty(hosts, dtype=np.int64)
    cdef long long[::1] chosen = out
    cdef Py_ssize_t count
    with nogil:
        count = _fitting(free, need, allowed, chosen, classes, hosts)
    return out[:count]


cdef Py_ssize_t _fitting(
    const long long[:, ::1] free,
    const long long[::1] need,
    const unsigned char[::1] allowed,
    long long[::1] chosen,
    Py_ssize_t classes,
    Py_ssize_t hosts,
) noexcept nogil:
    cdef Py_ssize_t host, cls, count = 0
    cdef bint fits
    for host in range(hosts):
        fits = allowed[host] != 0
        for cls in range(classes):
            if not fits:
                break
            fits = free[cls, host] >= need[cls]
        if fits:
            chosen[count] = host
            count += 1
    return count
