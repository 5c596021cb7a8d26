# The extremes that scores are normalised by, and the epochs that they last. Included by _fastsched.pyx.


@cython.final
cdef class _ExtremeSearch:
    """A search for the row with the highest raw value of a column, or the lowest (``sign`` -1)."""

    cdef Py_ssize_t column, at
    cdef int32_t sign, best, cap, row
    cdef bint hiding  # whether hidden rows do not count

    cdef void seek(self, _Rows rows, _RequestClass cls, Py_ssize_t column, int32_t sign, int32_t cap) noexcept nogil:
        """Nothing that fits is beyond ``cap``. Afterwards ``best`` and ``row``; row -1: nothing fits."""
        self.column, self.sign, self.cap = column, sign, cap * sign if cap != NONE else UNKNOWN
        self.at = 2 + rows.resources + column + (rows.columns if sign < 0 else 0)
        self.row, self.best = -1, NONE + 1  # what is not there, summed up, is no better
        self._descend(rows, cls, rows.levels - 1, 0)
        if self.row >= 0:
            self.best *= sign

    cdef void _descend(self, _Rows rows, _RequestClass cls, int level, Py_ssize_t node) noexcept nogil:
        cdef Py_ssize_t base = (rows.start[level] + node) * rows.summed * FAN
        cdef int32_t key[FAN]
        cdef int32_t amount, top
        cdef int i, child, pick
        for child in range(FAN):
            key[child] = rows.summary[base + self.at * FAN + child] * self.sign
        for i in range(cls.asked):
            amount = cls.asked_amount[i]
            for child in range(FAN):
                if rows.summary[base + (1 + cls.asked_column[i]) * FAN + child] < amount:
                    key[child] = NONE
        while True:
            pick, top = -1, self.best
            for child in range(FAN):
                if key[child] > top:
                    pick, top = child, key[child]
            if pick < 0:
                return
            key[pick] = NONE
            if cls.before[rows.summary[base + pick]] == cls.before[rows.summary[base + FAN + pick] + 1]:
                continue
            if level:
                self._descend(rows, cls, level - 1, node * FAN + pick)
            else:
                self._read_group(rows, cls, node * FAN + pick)
            if self.best >= self.cap:
                return

    cdef void _read_group(self, _Rows rows, _RequestClass cls, Py_ssize_t group) noexcept nogil:
        cdef int32_t mask[GROUP]
        cdef Py_ssize_t lane, base = rows.at(group, 1 + rows.resources + self.column)
        cdef int32_t value
        if not _mask(rows, cls, group, mask):
            return
        for lane in range(GROUP):
            value = rows.values[base + lane] * self.sign
            if mask[lane] and value > self.best and not (
                self.hiding and (rows.hidden[group] >> lane) & 1
            ):
                self.best, self.row = value, <int32_t>(group * GROUP + lane)


cdef bint _attains(_Rows rows, _RequestClass cls, int32_t row, Py_ssize_t column, int32_t value) noexcept nogil:
    return row >= 0 and _raw(rows, cls, row, column) == value and _fits(rows, cls, row)


cdef bint _extremes(_Rows rows, _RequestClass cls, _ExtremeSearch extremes) noexcept nogil:
    """Make the highs and lows of the class right. Returns whether any host fits (True when nothing is weighed)."""
    cdef Py_ssize_t column
    extremes.hiding = False
    for column in range(rows.columns):
        if not cls.weighed[column]:
            continue
        if cls.high[column] == NONE:
            return False
        if not _attains(rows, cls, cls.high_row[column], column, cls.high[column]):
            extremes.seek(rows, cls, column, 1, cls.high[column])
            cls.high[column], cls.high_row[column] = extremes.best, extremes.row
            if extremes.row < 0:
                _reset_extremes(rows, cls, NONE)
                return False
        if not cls.floors[column] and not _attains(rows, cls, cls.low_row[column], column, cls.low[column]):
            extremes.seek(rows, cls, column, -1, cls.low[column])
            cls.low[column], cls.low_row[column] = extremes.best, extremes.row
    return True


cdef void _reset_extremes(_Rows rows, _RequestClass cls, int32_t high) noexcept nogil:
    """Highs become ``high``: NONE when nothing fits, UNKNOWN when anything may."""
    cdef Py_ssize_t column
    for column in range(rows.columns):
        cls.high[column], cls.low[column] = high, -1 - high
        cls.high_row[column] = cls.low_row[column] = -1


# Normalisation epochs


cdef inline double _grown(double factor, double x, double low, double high) noexcept nogil:
    return factor * (max(x - low, 0.0) / (high - low)) if high > low else 0.0


cdef double _drift(_Rows rows, _RequestClass cls, int epoch) noexcept nogil:
    """The most that the score of an unchanged host can have grown since an epoch."""
    cdef Py_ssize_t column, multiplier_row
    cdef int now = <int>(cls.epoch % EPOCHS), i
    cdef double total, column_most, factor, x, most = -1e300, weight
    cdef double low, high, old_low, old_high, least, greatest
    cdef double points[4]
    if (cls.drift_known >> epoch) & 1:
        return cls.drift[epoch]
    for multiplier_row in range(cls.factors.shape[0]):
        total = weight = 0
        for column in range(rows.columns):
            factor = cls.factors[multiplier_row, column]
            if factor == 0:
                continue
            low, high = cls.epoch_extremes[now, 0, column], cls.epoch_extremes[now, 1, column]
            old_low, old_high = cls.epoch_extremes[epoch, 0, column], cls.epoch_extremes[epoch, 1, column]
            if low == old_low and high == old_high:
                continue
            least = max(cls.epoch_extremes[now, 2, column], cls.epoch_extremes[epoch, 2, column])
            greatest = min(cls.epoch_extremes[now, 3, column], cls.epoch_extremes[epoch, 3, column])
            points[0], points[1], points[2], points[3] = least, greatest, low, old_low
            column_most = -1e300
            for i in range(4):
                x = points[i]
                if i > 1 and not least < x < greatest:
                    continue
                x = _grown(factor, x, low, high) - _grown(factor, x, old_low, old_high)
                column_most = max(column_most, x)
            total += column_most
            weight += abs(factor) * (
                1 + abs(greatest - least) / max(1.0, min(high - low, old_high - old_low))
            )
        most = max(most, total + 1e-14 * weight * rows.columns)
    cls.drift[epoch] = most
    cls.drift_known |= (<uint64_t>1) << epoch
    return most


cdef void _measure(_Rows rows, _RequestClass cls, int epoch, const int32_t *low, const int32_t *high) noexcept nogil:
    """Score from these extremes, in an epoch that is the present one."""
    cdef Py_ssize_t column, multiplier_row
    cls.live = 0
    for column in range(rows.columns):
        if not cls.weighed[column]:
            continue
        cls.epoch_extremes[epoch, 0, column], cls.epoch_extremes[epoch, 1, column] = low[column], high[column]
        if low[column] != high[column]:
            cls.live_column[cls.live], cls.live_low[cls.live] = <int32_t>column, low[column]
            cls.live_span[cls.live] = <double>(high[column] - low[column])
            cls.live += 1
            for multiplier_row in range(cls.factors.shape[0]):
                cls.slopes[multiplier_row, column] = _slope(
                    cls.factors[multiplier_row, column], <double>high[column] - <double>low[column]
                )


cdef void _enter_epoch(_Rows rows, _RequestClass cls, const int32_t *low, const int32_t *high) noexcept nogil:
    """Score from these extremes from now on."""
    cdef int epoch = <int>(cls.epoch % EPOCHS)
    cdef Py_ssize_t column, node
    cdef int32_t least, greatest
    cdef bint same = True
    for column in range(rows.columns):
        if cls.weighed[column]:
            same = (
                same
                and cls.epoch_extremes[epoch, 0, column] == low[column]
                and cls.epoch_extremes[epoch, 1, column] == high[column]
            )
    if not same:
        cls.epoch += 1
        epoch = <int>(cls.epoch % EPOCHS)
        cls.drift_known = 0
        _measure(rows, cls, epoch, low, high)
    for column in range(rows.columns):
        if not cls.weighed[column]:
            continue
        least, greatest = cls.low[column], cls.high[column]
        if cls.floors[column]:
            least, greatest = 0, max(greatest, 0)
        cls.epoch_extremes[epoch, 2, column] = min(cls.epoch_extremes[epoch, 2, column], least) if same else least
        cls.epoch_extremes[epoch, 3, column] = max(cls.epoch_extremes[epoch, 3, column], greatest) if same else greatest
    if not same and cls.epoch % (EPOCHS // 2) == 0:
        for node in range(rows.nodes):
            if cls.node_epoch[node] + EPOCHS // 2 <= cls.epoch:
                _carry_to_epoch(rows, cls, node)


cdef inline void _carry_to_epoch(_Rows rows, _RequestClass cls, Py_ssize_t node) noexcept nogil:
    """Bring the bounds of a node to the present epoch."""
    cdef Py_ssize_t child
    cdef double drift
    if cls.node_epoch[node] != cls.epoch:
        drift = _drift(rows, cls, <int>(cls.node_epoch[node] % EPOCHS))
        for child in range(node * FAN, node * FAN + FAN):
            cls.bound[child] += drift
        cls.node_epoch[node] = cls.epoch
