# The best rows found so far, and the scores of rows. Included by _fastsched.pyx, which says how it works.


@cython.final
cdef class _Best:
    """The best rows found so far, best first; of equal scores the lowest position first. Behind the wanted ones some
    runners-up are kept."""

    cdef Py_ssize_t wanted, kept, found
    cdef double[::1] score
    cdef int32_t[::1] position
    cdef int32_t[::1] row
    cdef float threshold  # what has a lower score is not among the wanted

    def __init__(self):
        self.score = np.zeros(RANKED + WARM_STARTS + 1)
        self.position = np.zeros(RANKED + WARM_STARTS + 1, dtype=np.int32)
        self.row = np.zeros(RANKED + WARM_STARTS + 1, dtype=np.int32)

    cdef void begin(self, Py_ssize_t wanted) noexcept nogil:
        self.wanted, self.kept, self.found = wanted, max(wanted, <Py_ssize_t>WARM_STARTS), 0
        self.threshold = LEAST / 2  # above what does not fit

    cdef inline bint cannot_enter(self, double score, int32_t position) noexcept nogil:
        """Whether nothing with at most this score, at this position or later, can be among the wanted."""
        cdef Py_ssize_t last = self.wanted - 1
        if self.found < self.wanted:
            return False
        return score < self.score[last] or (score == self.score[last] and position > self.position[last])

    cdef inline bint holds(self, int32_t row) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.found):
            if self.row[i] == row:
                return True
        return False

    cdef bint offer(self, double score, int32_t position, int32_t row) noexcept nogil:
        """Put a row in its place. Returns whether another fell off the end: it lies beyond the last."""
        cdef Py_ssize_t at = self.found
        cdef bint full = self.found == self.kept
        while at > 0 and (
            self.score[at - 1] < score or (self.score[at - 1] == score and self.position[at - 1] > position)
        ):
            self.score[at], self.position[at], self.row[at] = (
                self.score[at - 1], self.position[at - 1], self.row[at - 1]
            )
            at -= 1
        self.score[at], self.position[at], self.row[at] = score, position, row
        if not full:
            self.found += 1
        if self.found >= self.wanted:
            self.threshold = _below(self.score[self.wanted - 1])
        return full and at < self.kept


cdef inline float _below(double value) noexcept nogil:
    """A float32 that is at most ``value``."""
    return <float>(value * (DOWN if value > 0 else UP) - TINY)


cdef inline float _slope(double factor, double spread) noexcept nogil:
    """A float32 so far above factor / spread that a sum of products with it is above the exact sum."""
    cdef double exact = factor / spread
    if exact > 0:
        return <float>max(exact * UP, TINY)
    exact *= DOWN
    return <float>exact if exact < -TINY else 0.0


# Looking at rows


cdef inline bint _fits(_Rows rows, _RequestClass cls, Py_ssize_t row) noexcept nogil:
    """Whether a row (or an entry of the log, as the row it is stored in) passes and has room."""
    cdef int i
    if not cls.passes[rows.values[rows.cell(row, 0)]]:
        return False
    for i in range(cls.asked):
        if rows.values[rows.cell(row, cls.asked_column[i])] < cls.asked_amount[i]:
            return False
    return True


cdef inline int32_t _raw(_Rows rows, _RequestClass cls, Py_ssize_t row, Py_ssize_t column) noexcept nogil:
    return rows.values[rows.cell(row, 1 + rows.resources + column)]


cdef inline int32_t _multiplier_row(_Rows rows, _RequestClass cls, Py_ssize_t row) noexcept nogil:
    """Which factors are a row's."""
    return cls.multiplier_row[rows.values[rows.cell(row, 0)]] if cls.multiplier_row.shape[0] else 0


cdef bint _mask(_Rows rows, _RequestClass cls, Py_ssize_t group, int32_t *mask) noexcept nogil:
    """-1 for the rows of a group that pass and have room, else 0. Returns whether there is one."""
    cdef Py_ssize_t lane, half, base = rows.at(group, 0)
    cdef int32_t amount, some = 0
    cdef uint32_t word
    cdef int i
    if group < rows.groups:
        if not (cls.words[2 * group] | cls.words[2 * group + 1]):
            return False
        for half in range(2):
            word = cls.words[2 * group + half]
            for lane in range(HALF):
                mask[half * HALF + lane] = -<int32_t>((word >> lane) & 1)
    else:
        for lane in range(GROUP):
            mask[lane] = cls.passes[rows.values[base + lane]]
    for i in range(cls.asked):
        base, amount = rows.at(group, cls.asked_column[i]), cls.asked_amount[i]
        for lane in range(GROUP):
            mask[lane] &= -<int32_t>(rows.values[base + lane] >= amount)
    for lane in range(GROUP):
        some |= mask[lane]
    return some != 0


cdef void _upper(_Rows rows, _RequestClass cls, Py_ssize_t group, float *upper) noexcept nogil:
    """For each row of a group a score that its own, in the present epoch, does not exceed."""
    cdef Py_ssize_t lane, base, signs = ((group // FAN) * rows.summed) * FAN + group % FAN
    cdef int32_t low, multiplier_row = -1
    cdef float slope
    cdef int i
    if not cls.multiplier_row.shape[0]:
        multiplier_row = 0
    elif group < rows.groups and rows.summary[signs] == rows.summary[signs + FAN]:
        multiplier_row = cls.multiplier_row[rows.values[rows.at(group, 0)]]
    for lane in range(GROUP):
        upper[lane] = TINY  # not 0: compilers clear memory byte by byte, which takes longer than adding up
    for i in range(cls.live):
        low = cls.live_low[i]
        base = rows.at(group, 1 + rows.resources + cls.live_column[i])
        if multiplier_row >= 0:
            slope = cls.slopes[multiplier_row, cls.live_column[i]]
            if low == 0:  # the same, shorter: floors are common
                for lane in range(GROUP):
                    upper[lane] += slope * <float>max(rows.values[base + lane], 0)
            else:
                for lane in range(GROUP):
                    upper[lane] += slope * <float>(max(rows.values[base + lane], low) - low)
        else:
            for lane in range(GROUP):
                slope = cls.slopes[cls.multiplier_row[rows.values[rows.at(group, 0) + lane]], cls.live_column[i]]
                upper[lane] += slope * <float>(max(rows.values[base + lane], low) - low)


cdef float _upper_of(_Rows rows, _RequestClass cls, Py_ssize_t row) noexcept nogil:
    """The same for one row."""
    cdef int32_t column, multiplier_row = _multiplier_row(rows, cls, row)
    cdef float total = 0, value
    cdef int i
    for i in range(cls.live):
        column = cls.live_column[i]
        value = <float>(_raw(rows, cls, row, column) - cls.live_low[i])
        total += cls.slopes[multiplier_row, column] * (value if value > 0 else 0)
    return total


cdef double _score(_Rows rows, _RequestClass cls, Py_ssize_t row) noexcept nogil:
    """A row's score in the present epoch, by the operations of the reference."""
    cdef int32_t column, value, multiplier_row = _multiplier_row(rows, cls, row)
    cdef double total = 0
    cdef int i
    for i in range(cls.live):
        column = cls.live_column[i]
        value = _raw(rows, cls, row, column)
        if cls.floors[column] and value < 0:
            value = 0
        total += cls.factors[multiplier_row, column] * (<double>(value - cls.live_low[i]) / cls.live_span[i])
    return total
