# Finding the best rows for a class. Included by _fastsched.pyx, which says how it works.


# Replay


cdef void _reset(_Rows rows, _RequestClass cls) noexcept nogil:
    """Know nothing of the rows."""
    cdef Py_ssize_t node, child, children = rows.groups
    cdef int level
    for level in range(rows.levels):
        for child in range(((children + FAN - 1) // FAN) * FAN):
            cls.bound[rows.start[level] * FAN + child] = ANY if child < children else NEVER
        children = (children + FAN - 1) // FAN
    for node in range(rows.nodes):
        cls.node_epoch[node] = cls.epoch
    _reset_extremes(rows, cls, UNKNOWN)
    cls.warm_starts = 0
    cls.seen = rows.logged
    cls.fresh = False
    cls.proven = False


cdef inline void _widen_extremes_by(_Rows rows, _RequestClass cls, Py_ssize_t slot, int32_t row) noexcept nogil:
    """Let the extremes cover an entry of the log that fits."""
    cdef Py_ssize_t column
    cdef int32_t value
    for column in range(rows.columns):
        value = _raw(rows, cls, slot, column)
        if value > cls.high[column]:
            cls.high[column], cls.high_row[column] = value, row
            cls.proven = False
        if value < cls.low[column]:
            cls.low[column], cls.low_row[column] = value, row
            cls.proven = False


cdef void _widen_extremes(_Rows rows, _RequestClass cls) noexcept nogil:
    """Let the extremes cover what the log says since the class was last used."""
    cdef int32_t mask[GROUP]
    cdef int64_t entry = cls.seen
    cdef Py_ssize_t group, lane, end
    while entry < rows.logged:
        group, lane = rows.log_group(entry), entry % GROUP
        end = min(<int64_t>GROUP, lane + rows.logged - entry)
        entry += end - lane
        if end - lane <= FEW:
            for lane in range(lane, end):
                cls.proven = cls.proven and not _witness(rows, cls, _logged(rows, group, lane))
                if _fits(rows, cls, group * GROUP + lane):
                    _widen_extremes_by(rows, cls, group * GROUP + lane, _logged(rows, group, lane))
            continue
        cls.proven = False
        if end - lane == GROUP and not _spans_more(rows, cls, group):
            continue
        if _mask(rows, cls, group, mask):
            for lane in range(lane, end):
                if mask[lane]:
                    _widen_extremes_by(rows, cls, group * GROUP + lane, _logged(rows, group, lane))


cdef inline bint _witness(_Rows rows, _RequestClass cls, int32_t row) noexcept nogil:
    """Whether a row is the witness of an extreme."""
    cdef Py_ssize_t column
    for column in range(rows.columns):
        if row == cls.high_row[column] or row == cls.low_row[column]:
            return True
    return False


cdef inline bint _spans_more(_Rows rows, _RequestClass cls, Py_ssize_t group) noexcept nogil:
    """Whether a full group of the log has a raw value beyond the extremes, in a host that fits or not."""
    cdef Py_ssize_t column, at = (group - rows.groups) * 2 * rows.columns
    for column in range(rows.columns):
        if not cls.weighed[column]:
            continue
        if rows.log_span[at + column] > cls.high[column]:
            return True
        if not cls.floors[column] and rows.log_span[at + rows.columns + column] < cls.low[column]:
            return True
    return False


cdef inline int32_t _logged(_Rows rows, Py_ssize_t group, Py_ssize_t lane) noexcept nogil:
    return rows.log_row[(group - rows.groups) * GROUP + lane]


cdef void _raise_bounds(_Rows rows, _RequestClass cls, int64_t seen) noexcept nogil:
    """Let the bounds cover what the log says since ``seen``, in the present epoch."""
    cdef int32_t mask[GROUP]
    cdef float upper[GROUP]
    cdef int64_t entry = seen
    cdef Py_ssize_t group, lane, end, i
    while entry < rows.logged:
        group, lane = rows.log_group(entry), entry % GROUP
        end = min(<int64_t>GROUP, lane + rows.logged - entry)
        entry += end - lane
        if end - lane <= FEW:
            for lane in range(lane, end):
                if not _is_warm_start(cls, _logged(rows, group, lane)) and _fits(rows, cls, group * GROUP + lane):
                    _raise_bounds_by(rows, cls, _logged(rows, group, lane), _upper_of(rows, cls, group * GROUP + lane))
        elif _mask(rows, cls, group, mask):
            for i in range(lane, end):
                fastsched_fetch(&cls.bound[_logged(rows, group, i) // GROUP])
            _upper(rows, cls, group, upper)
            for lane in range(lane, end):
                if mask[lane] and not _is_warm_start(cls, _logged(rows, group, lane)):
                    _raise_bounds_by(rows, cls, _logged(rows, group, lane), upper[lane])


cdef inline bint _is_warm_start(_RequestClass cls, int32_t row) noexcept nogil:
    cdef int i
    for i in range(cls.warm_starts):
        if cls.warm_row[i] == row:
            return True
    return False


cdef void _raise_bounds_by(_Rows rows, _RequestClass cls, int32_t row, double upper) noexcept nogil:
    cdef Py_ssize_t child = row // GROUP, node
    cdef int level
    for level in range(rows.levels):
        node = rows.start[level] + child // FAN
        _carry_to_epoch(rows, cls, node)
        if upper > cls.bound[node * FAN + child % FAN]:
            cls.bound[node * FAN + child % FAN] = upper
        child = child // FAN


# The search


cdef float _upper_fitting(_Rows rows, _RequestClass cls, Py_ssize_t group, float least, float *upper) noexcept nogil:
    """``_upper`` for the rows of a group. Returns the highest; if that is ``least`` or more, the highest of those that
    pass and have room, and ``upper`` is LEAST for the others. So what is free is not read where nothing could enter."""
    cdef int32_t mask[GROUP]
    cdef float value, top = LEAST
    cdef Py_ssize_t lane
    if not (cls.words[2 * group] | cls.words[2 * group + 1]):
        return LEAST
    _upper(rows, cls, group, upper)
    for lane in range(GROUP):
        if upper[lane] > top:
            top = upper[lane]
    if top < least:
        return top
    if not _mask(rows, cls, group, mask):
        return LEAST
    top = LEAST
    for lane in range(GROUP):
        value = upper[lane]
        value = value if mask[lane] else LEAST
        upper[lane] = value
        if value > top:
            top = value
    return top


cdef double _offer_group(_Rows rows, _RequestClass cls, _Best best, Py_ssize_t group) noexcept nogil:
    """Offer a group's rows. Returns a bound of the scores of those that are not in the ranking."""
    cdef float upper[GROUP]
    cdef float value, top
    cdef float rest[GROUP]
    cdef unsigned char likely[GROUP]
    cdef uint64_t eight
    cdef double bound, score
    cdef double exact[GROUP]
    cdef int32_t offered[GROUP]
    cdef Py_ssize_t lane, part, count
    cdef int32_t row
    for lane from (1 + rows.resources) * GROUP <= lane < rows.width by LINE:
        fastsched_fetch(&rows.values[group * rows.width + lane])
    top = _upper_fitting(rows, cls, group, best.threshold, upper)
    if top < best.threshold:
        return top if top > LEAST else NEVER
    bound = NEVER
    for lane in range(GROUP):
        value = upper[lane]
        likely[lane] = value >= best.threshold
        rest[lane] = value if value < best.threshold else LEAST
    top = LEAST
    for lane in range(GROUP):
        if rest[lane] > top:
            top = rest[lane]
    bound, count = top, 0
    for part in range(0, GROUP, 8):
        memcpy(&eight, &likely[part], 8)
        if not eight:
            continue
        for lane in range(part, part + 8):
            if not likely[lane]:
                continue
            row = <int32_t>(group * GROUP + lane)
            if upper[lane] < best.threshold or (rows.hidden[group] >> lane) & 1:
                bound = max(bound, <double>upper[lane])
                continue
            score = _score(rows, cls, row)
            exact[count], offered[count] = score, row
            count += 1
            if not best.holds(row) and best.offer(score, rows.position_of[row], row):
                _raise_bounds_by(rows, cls, best.row[best.kept], best.score[best.kept])
    for lane in range(count):
        if exact[lane] > bound and not best.holds(offered[lane]):
            bound = exact[lane]
    return bound


cdef double _search(_Rows rows, _RequestClass cls, _Best best, int level, Py_ssize_t node) noexcept nogil:
    """Visit what is below a node, highest bound first, until nothing can enter. Returns the node's bound."""
    cdef Py_ssize_t at = (rows.start[level] + node) * FAN
    cdef int child, pick
    cdef double ahead[FAN]  # the bounds of what has not been visited
    cdef double most
    _carry_to_epoch(rows, cls, rows.start[level] + node)
    for child in range(FAN):
        ahead[child] = cls.bound[at + child]
    while True:
        most = NEVER
        for child in range(FAN):
            most = max(most, ahead[child])
        pick = -1
        for child in range(FAN):
            if ahead[child] == most and (pick < 0 or rows.first[at + child] < rows.first[at + pick]):
                pick = child
        if most <= NEVER / 2 or best.cannot_enter(most, rows.first[at + pick]):
            break
        if level:
            cls.bound[at + pick] = _search(rows, cls, best, level - 1, node * FAN + pick)
        else:
            cls.bound[at + pick] = _offer_group(rows, cls, best, node * FAN + pick)
        ahead[pick] = NEVER
    most = NEVER
    for child in range(FAN):
        most = max(most, cls.bound[at + child])
    return most


cdef void _load_warm_starts(_Rows rows, _RequestClass cls, _Best best) noexcept nogil:
    """Begin with the warm-start set, as its rows are now. Those that do not fit any more leave it."""
    cdef int i
    for i in range(cls.warm_starts):
        if _fits(rows, cls, cls.warm_row[i]):
            best.offer(_score(rows, cls, cls.warm_row[i]), rows.position_of[cls.warm_row[i]], cls.warm_row[i])
    cls.warm_starts = 0


cdef void _store_warm_starts(_Rows rows, _RequestClass cls, _Best best) noexcept nogil:
    """Store the best as the warm-start set; the bounds cover the others."""
    cdef Py_ssize_t i
    cls.warm_starts = <int>min(best.found, <Py_ssize_t>WARM_STARTS)
    for i in range(best.found):
        if i < WARM_STARTS:
            cls.warm_row[i] = best.row[i]
        else:
            _raise_bounds_by(rows, cls, best.row[i], best.score[i])
    best.found = min(best.found, best.wanted)


cdef void _evict_warm_starts(_Rows rows, _RequestClass cls) noexcept nogil:
    """Empty the warm-start set: the bounds cover its rows."""
    cdef int i
    for i in range(cls.warm_starts):
        if _fits(rows, cls, cls.warm_row[i]):
            _raise_bounds_by(rows, cls, cls.warm_row[i], _upper_of(rows, cls, cls.warm_row[i]))
    cls.warm_starts = 0


cdef bint _score_range(
    _Rows rows, _RequestClass cls, _ExtremeSearch extremes, bint hiding, int32_t *low, int32_t *high
) noexcept nogil:
    """The extremes to score from: those of the class without the hidden rows. Returns whether a host is left."""
    cdef Py_ssize_t column
    cdef int32_t row
    cdef bint left = True
    extremes.hiding = True
    for column in range(rows.columns):
        if not cls.weighed[column]:
            continue
        low[column], high[column] = cls.low[column], cls.high[column]
        row = cls.high_row[column]
        if hiding and left and (rows.hidden[row // GROUP] >> (row % GROUP)) & 1:
            extremes.seek(rows, cls, column, 1, high[column])
            left = extremes.row >= 0
            if left:
                high[column] = extremes.best
        row = cls.low_row[column]
        if cls.floors[column]:
            low[column], high[column] = 0, max(high[column], 0)
        elif hiding and left and (rows.hidden[row // GROUP] >> (row % GROUP)) & 1:
            extremes.seek(rows, cls, column, -1, low[column])
            low[column] = extremes.best
    return left


cdef void _choose(_Rows rows, _RequestClass cls, _Best best, _ExtremeSearch extremes, bint hiding) noexcept nogil:
    """The best rows that are not hidden, into ``best``."""
    cdef int64_t seen = cls.seen
    cdef int32_t low[MOST]
    cdef int32_t high[MOST]
    cdef bint left = True
    if cls.fresh or rows.logged - cls.seen > rows.ring:
        _reset(rows, cls)
        seen = rows.logged
    _widen_extremes(rows, cls)
    cls.seen = rows.logged
    if hiding or not cls.proven:
        cls.none = not _extremes(rows, cls, extremes)
        if not cls.none:
            left = _score_range(rows, cls, extremes, hiding, low, high)
            _enter_epoch(rows, cls, low, high)
        cls.proven = not hiding
    if cls.none:
        return
    _raise_bounds(rows, cls, seen)
    if hiding:
        _evict_warm_starts(rows, cls)
    if not left:
        return
    _load_warm_starts(rows, cls, best)
    _search(rows, cls, best, rows.levels - 1, 0)
    _store_warm_starts(rows, cls, best)
