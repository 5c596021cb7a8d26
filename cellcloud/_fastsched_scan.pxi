# Looking at every row. Included by _fastsched.pyx.


cdef _RequestClass _scan_class(_Rows rows, _RequestClass cls):
    """The class with extremes and slopes of its own, so that a scan neither uses nor changes what is known; only the
    rows to begin with are the same."""
    cdef _RequestClass for_scans = cls.for_scans
    cdef Py_ssize_t column
    if for_scans is None:
        for_scans = _RequestClass()
        for_scans.asked, for_scans.asked_column, for_scans.asked_amount = cls.asked, cls.asked_column, cls.asked_amount
        for_scans.passes, for_scans.words, for_scans.multiplier_row = cls.passes, cls.words, cls.multiplier_row
        for_scans.factors, for_scans.floors, for_scans.weighed = cls.factors, cls.floors, cls.weighed
        for_scans.epoch_extremes = np.zeros((1, 4, rows.columns), dtype=np.int32)
        for_scans.slopes = np.zeros((cls.factors.shape[0], rows.columns), dtype=np.float32)
        cls.for_scans = for_scans
    for_scans.warm_starts, for_scans.warm_row = (0 if cls.fresh else cls.warm_starts), cls.warm_row
    for column in range(rows.columns):
        for_scans.high_row[column] = -1 if cls.fresh else cls.high_row[column]
        for_scans.low_row[column] = -1 if cls.fresh else cls.low_row[column]
    return for_scans


cdef bint _span(_Rows rows, _RequestClass cls, int32_t *low, int32_t *high) noexcept nogil:
    """The extremes of all rows that fit and are not hidden. Returns whether there are any.

    Begins with the witnesses, as they are now. Groups whose own extremes lie within those found are passed over: nothing
    in them can be beyond.
    """
    cdef int32_t beyond[FAN]
    cdef int32_t top, bottom
    cdef const int32_t *highs
    cdef const int32_t *lows
    cdef Py_ssize_t node, child, column
    cdef bint some = False
    for column in range(rows.columns):
        low[column], high[column] = UNKNOWN, NONE
        if cls.weighed[column] and _counts(rows, cls, cls.high_row[column]):
            some, high[column] = True, _raw(rows, cls, cls.high_row[column], column)
        if cls.weighed[column] and _counts(rows, cls, cls.low_row[column]):
            some, low[column] = True, _raw(rows, cls, cls.low_row[column], column)
    for node in range((rows.groups + FAN - 1) // FAN):
        for child in range(FAN):
            beyond[child] = not some
        for column in range(rows.columns):
            if not cls.weighed[column]:
                continue
            highs = &rows.summary[(node * rows.summed + 2 + rows.resources + column) * FAN]
            top = high[column]
            for child in range(FAN):
                beyond[child] |= -<int32_t>(highs[child] > top)
            if not cls.floors[column]:
                lows = highs + rows.columns * FAN
                bottom = low[column]
                for child in range(FAN):
                    beyond[child] |= -<int32_t>(lows[child] < bottom)
        for child in range(min(FAN, rows.groups - node * FAN)):
            if beyond[child] and _span_group(rows, cls, node * FAN + child, low, high):
                some = True
    for column in range(rows.columns):
        if cls.floors[column]:
            low[column], high[column] = 0, max(0, high[column])
    return some


cdef inline bint _counts(_Rows rows, _RequestClass cls, int32_t row) noexcept nogil:
    """Whether there is such a row, and it fits and is not hidden."""
    return row >= 0 and not (rows.hidden[row // GROUP] >> (row % GROUP)) & 1 and _fits(rows, cls, row)


cdef bint _span_group(_Rows rows, _RequestClass cls, Py_ssize_t group, int32_t *low, int32_t *high) noexcept nogil:
    """Widen the extremes by the rows of a group. Returns whether any of them fits."""
    cdef int32_t mask[GROUP]
    cdef int32_t value, beyond
    cdef Py_ssize_t lane, column, base, highs
    if not _mask(rows, cls, group, mask):
        return False
    _unhide(rows, group, mask)
    for column in range(rows.columns):
        if not cls.weighed[column]:
            continue
        base = rows.at(group, 1 + rows.resources + column)
        highs = (group // FAN * rows.summed + 2 + rows.resources + column) * FAN + group % FAN
        if rows.summary[highs] > high[column]:
            beyond = NONE
            for lane in range(GROUP):
                value = (rows.values[base + lane] & mask[lane]) | (<int32_t>NONE & ~mask[lane])
                if value > beyond:
                    beyond = value
            high[column] = max(high[column], beyond)
        if not cls.floors[column] and rows.summary[highs + rows.columns * FAN] < low[column]:
            beyond = UNKNOWN
            for lane in range(GROUP):
                value = (rows.values[base + lane] & mask[lane]) | (<int32_t>UNKNOWN & ~mask[lane])
                if value < beyond:
                    beyond = value
            low[column] = min(low[column], beyond)
    return True


cdef inline void _unhide(_Rows rows, Py_ssize_t group, int32_t *mask) noexcept nogil:
    """Take the hidden rows out of a mask."""
    cdef Py_ssize_t lane
    if rows.hidden[group]:
        for lane in range(GROUP):
            if (rows.hidden[group] >> lane) & 1:
                mask[lane] = 0


cdef void _scan(_Rows rows, _RequestClass cls, _Best best) noexcept nogil:
    """The best rows, by looking at every one."""
    cdef int32_t low[MOST]
    cdef int32_t high[MOST]
    cdef Py_ssize_t group
    best.kept = best.wanted
    cls.warm_starts = <int>min(cls.warm_starts, best.wanted)
    if _span(rows, cls, low, high):
        _measure(rows, cls, 0, low, high)
        _load_warm_starts(rows, cls, best)
        for group in range(rows.groups):
            _offer_all(rows, cls, best, group)


cdef void _offer_all(_Rows rows, _RequestClass cls, _Best best, Py_ssize_t group) noexcept nogil:
    """Offer a group's rows."""
    cdef float upper[GROUP]
    cdef unsigned char likely[GROUP]
    cdef uint64_t eight
    cdef Py_ssize_t lane, part
    cdef int32_t row
    if _upper_fitting(rows, cls, group, best.threshold, upper) < best.threshold:
        return
    for lane in range(GROUP):
        likely[lane] = upper[lane] >= best.threshold
    for part in range(0, GROUP, 8):
        memcpy(&eight, &likely[part], 8)
        if not eight:
            continue
        for lane in range(part, part + 8):
            row = <int32_t>(group * GROUP + lane)
            if likely[lane] and not (rows.hidden[group] >> lane) & 1 and not best.holds(row):
                best.offer(_score(rows, cls, row), rows.position_of[row], row)


def _all_fitting(_Rows rows, _RequestClass cls):
    """Positions of the rows that fit and are not hidden, in no order."""
    cdef int32_t mask[GROUP]
    cdef Py_ssize_t group, lane, count = 0
    found = np.empty(rows.hosts, dtype=np.int32)
    cdef int32_t[::1] positions = found
    for group in range(rows.groups):
        if _mask(rows, cls, group, mask):
            _unhide(rows, group, mask)
            for lane in range(GROUP):
                if mask[lane]:
                    positions[count] = rows.position_of[group * GROUP + lane]
                    count += 1
    return found[:count]


def _all_scores(_Rows rows, _RequestClass given):
    """Positions and scores of the rows that fit and are not hidden."""
    cdef _RequestClass cls = _scan_class(rows, given)
    cdef int32_t low[MOST]
    cdef int32_t high[MOST]
    cdef Py_ssize_t i
    places = _all_fitting(rows, cls)
    cdef int32_t[::1] positions = places
    cdef double[::1] scores = np.zeros(len(places))
    if len(places) > 1:
        _span(rows, cls, low, high)
        _measure(rows, cls, 0, low, high)
        for i in range(len(places)):
            scores[i] = _score(rows, cls, rows.row_of[positions[i]])
    return places, np.asarray(scores)
