# Finding the best rows for a class. Included by _fastsched.pyx, which says how it works.


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


# Extremes


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
