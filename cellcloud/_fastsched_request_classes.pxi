# Classes of requests: what each asks, and what is known of it. Included by _fastsched.pyx, which says how it works.


@cython.final
cdef class _RequestClass:
    """A class of requests: what it asks, and what is known of the hosts that fit it."""

    # What was given, as the reference wants it.
    cdef object given_need, given_passes, given_multipliers, given_step
    # What it asks: columns and amounts of the resources asked for, the step of each raw column.
    cdef int asked
    cdef int asked_column[MOST]
    cdef int32_t asked_amount[MOST]
    cdef int64_t take[MOST]
    cdef int64_t step[MOST]
    # By host class: -1 passes or 0; how many before it pass; its row of the factors.
    cdef int32_t[::1] passes
    cdef int32_t[::1] before
    cdef uint32_t[::1] words  # by group two: which rows have a host class that passes; shared with classes of that kind
    cdef int32_t[::1] multiplier_row
    cdef double[:, ::1] factors
    cdef bint floors[MOST]
    cdef bint weighed[MOST]  # columns with a factor that is not 0
    # What is known.
    cdef bint fresh  # nothing
    cdef bint proven  # the extremes, and the epoch's are the same
    cdef bint none  # that no host fits
    cdef int64_t seen
    cdef int32_t high[MOST]
    cdef int32_t low[MOST]
    cdef int32_t high_row[MOST]
    cdef int32_t low_row[MOST]
    cdef int64_t epoch
    # (EPOCHS, 4, K): low and high that scores are normalised by, low and high of all hosts that fit
    cdef int32_t[:, :, ::1] epoch_extremes
    cdef double drift[EPOCHS]
    cdef uint64_t drift_known
    cdef float[:, ::1] slopes  # factors of the present epoch, rounded up
    cdef int live  # columns that are weighed and differ in the present epoch; which, their lows, and high less low
    cdef int32_t live_column[MOST]
    cdef int32_t live_low[MOST]
    cdef double live_span[MOST]
    cdef double[::1] bound
    cdef int64_t[::1] node_epoch
    cdef object for_scans  # a class of the same requests for scans
    cdef int warm_starts  # how many rows the warm-start set has
    cdef int32_t warm_row[WARM_STARTS]

    cdef size_t nbytes(self) noexcept:
        return self.buffers() + sizeof(double) * (self.bound.shape[0] + self.node_epoch.shape[0])

    cdef size_t buffers(self) noexcept:
        """What of it does not grow with the hosts."""
        return (
            sizeof(int32_t) * (self.multiplier_row.shape[0] + self.epoch_extremes.size)
            + sizeof(double) * self.factors.size
        )


def _words(_Rows rows, _RequestClass cls):
    """Which rows have a host class that passes, as bits."""
    values = np.asarray(rows.values)[: rows.groups * rows.width].reshape(rows.groups, -1, GROUP)
    passes = np.asarray(cls.passes)[values[:, 0]] != 0
    return np.packbits(passes, axis=1, bitorder="little").reshape(-1).view(np.uint32).copy()


def _tabulate(_RequestClass cls, Py_ssize_t host_classes, dict tables):
    """Lay out what a class says by host class; host classes beyond what was given do not pass. Request classes that pass
    the same share a table."""
    key = cls.given_passes.tobytes()
    if key not in tables:
        passes = np.zeros(max(len(cls.given_passes), host_classes) + 2, dtype=np.int32)
        passes[1 : 1 + len(cls.given_passes)] = -cls.given_passes.astype(np.int32)
        tables[key] = passes, np.concatenate(([0], np.cumsum(-passes))).astype(np.int32)
    cls.passes, cls.before = tables[key]
    multiplier_row = np.zeros(0, dtype=np.int32)
    factors = np.atleast_2d(cls.given_multipliers)
    if cls.given_multipliers.ndim == 2 and factors.size:
        factors, kind = np.unique(factors, axis=0, return_inverse=True)
        multiplier_row = np.zeros(cls.passes.shape[0], dtype=np.int32)
        multiplier_row[1 : 1 + len(kind)] = kind
    if not factors.size:
        factors = np.zeros((1, factors.shape[1]))
    cls.multiplier_row = multiplier_row
    cls.factors = np.ascontiguousarray(factors)
    cls.slopes = np.zeros(factors.shape, dtype=np.float32)
    for column, weighed in enumerate((factors != 0).any(axis=0)):
        cls.weighed[column] = weighed
    cls.epoch_extremes = np.zeros((EPOCHS, 4, factors.shape[1]), dtype=np.int32)
    cls.live = 0
    cls.epoch = 0
    cls.drift_known = 0
    cls.for_scans = None
    cls.fresh = True
