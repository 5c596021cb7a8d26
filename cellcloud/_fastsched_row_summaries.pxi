# Rows, their summary and the log of their changes. Included by _fastsched.pyx, which says how they are used.


def _aligned(Py_ssize_t size, dtype):
    """An array that begins on a cache line."""
    width = np.dtype(dtype).itemsize
    whole_array = np.empty(size + 64 // width, dtype=dtype)
    return whole_array[(-whole_array.ctypes.data % 64) // width :][:size]


@cython.final
cdef class _Rows:
    """Every host's row; ``at(group, column) + lane`` is where a value lies. The groups after the hosts' are the log."""

    cdef Py_ssize_t hosts, groups, resources, columns, width
    cdef int32_t[::1] values
    cdef int32_t[::1] row_of  # by position
    cdef int32_t[::1] position_of  # by row
    cdef uint64_t[::1] hidden  # by group: rows that do not count now
    # The tree: level 0 has the groups as children; nodes of all levels in one numbering.
    cdef int levels
    cdef Py_ssize_t start[LEVELS]
    cdef Py_ssize_t nodes
    cdef int32_t[::1] summary
    cdef Py_ssize_t summed  # columns of the summary
    cdef int32_t[::1] first  # by child: its lowest position
    # The log.
    cdef int64_t logged
    cdef Py_ssize_t ring
    cdef int32_t[::1] log_row
    cdef int32_t[::1] log_span  # by full group of the log: the highest of each raw value, the lowest of each

    def __init__(self, host_class, free, raw):
        """``host_class`` (N,) from 1, ``free`` (R, N), ``raw`` (K, N), all whole numbers that fit int32."""
        cdef Py_ssize_t count = len(host_class), level
        self.hosts, self.resources, self.columns = count, len(free), len(raw)
        self.width = (1 + self.resources + self.columns) * GROUP
        self.groups = max(1, (count + GROUP - 1) // GROUP)
        self.ring = 256
        while self.ring < 65536 and self.ring < count // 4:
            self.ring *= 2
        order = np.argsort(host_class, kind="stable").astype(np.int32)
        self.position_of = np.full(self.groups * GROUP, UNKNOWN, dtype=np.int32)
        np.asarray(self.position_of)[:count] = order
        self.row_of = np.empty(count, dtype=np.int32)
        np.asarray(self.row_of)[order] = np.arange(count, dtype=np.int32)
        values = _aligned((self.groups + self.ring // GROUP) * self.width, np.int32)
        values[:] = 0
        rows = values[: self.groups * self.width].reshape(self.groups, -1, GROUP)
        lane = np.arange(count)
        for column, source in enumerate((host_class, *free, *raw)):
            rows[lane // GROUP, column, lane % GROUP] = source[order]
        self.values = values
        self.hidden = np.zeros(self.groups, dtype=np.uint64)
        self.log_row = np.zeros(self.ring, dtype=np.int32)
        self.log_span = np.zeros(self.ring // GROUP * 2 * self.columns, dtype=np.int32)
        self.logged = 0
        self.levels = self.nodes = 0
        entries = self.groups
        while True:
            self.start[self.levels] = self.nodes
            self.levels += 1
            entries = (entries + FAN - 1) // FAN
            self.nodes += entries
            if entries == 1:
                break
        self._summarise(rows)

    cdef object _summarise(self, rows):
        cdef Py_ssize_t resources = self.resources, columns = self.columns
        self.summed = 2 + resources + 2 * columns
        parts = [rows[:, 0].min(1), rows[:, 0].max(1), *rows[:, 1:].max(2).T, *rows[:, 1 + resources :].min(2).T]
        table = np.array(parts, dtype=np.int32).reshape(self.summed, self.groups)
        position = np.asarray(self.position_of).reshape(self.groups, GROUP).min(1)
        nothing = np.array([UNKNOWN, NONE] + [NONE] * (resources + columns) + [UNKNOWN] * columns, dtype=np.int32)
        lowest = nothing == UNKNOWN
        summary = _aligned(self.nodes * self.summed * FAN, np.int32)
        first = np.full(self.nodes * FAN, UNKNOWN, dtype=np.int32)
        for level in range(self.levels):
            begin, size = self.start[level], (table.shape[1] + FAN - 1) // FAN
            padded = np.repeat(nothing[:, None], size * FAN, axis=1)
            padded[:, : table.shape[1]] = table
            first[begin * FAN : begin * FAN + len(position)] = position
            position = first[begin * FAN : (begin + size) * FAN].reshape(size, FAN).min(1)
            blocks = padded.reshape(self.summed, size, FAN).transpose(1, 0, 2)
            summary[begin * self.summed * FAN : (begin + size) * self.summed * FAN] = blocks.reshape(-1)
            table = np.where(lowest[:, None], blocks.min(2).T, blocks.max(2).T)
        self.summary, self.first = summary, first

    cdef size_t nbytes(self):
        return sizeof(int32_t) * (
            self.values.shape[0] + self.row_of.shape[0] + self.position_of.shape[0] + self.summary.shape[0]
            + self.first.shape[0] + self.log_row.shape[0] + self.log_span.shape[0] + 2 * self.hidden.shape[0]
        )

    cdef size_t buffers(self):
        """What of it is the log's."""
        return sizeof(int32_t) * (
            self.ring // GROUP * self.width + self.log_row.shape[0] + self.log_span.shape[0]
        )

    cdef inline Py_ssize_t at(self, Py_ssize_t group, Py_ssize_t column) noexcept nogil:
        return group * self.width + column * GROUP

    cdef inline Py_ssize_t cell(self, Py_ssize_t row, Py_ssize_t column) noexcept nogil:
        return (row // GROUP) * self.width + column * GROUP + row % GROUP

    cdef inline Py_ssize_t log_group(self, int64_t entry) noexcept nogil:
        return self.groups + (entry % self.ring) // GROUP

    cdef void write(self, Py_ssize_t row, const int32_t *values) noexcept nogil:
        """Give a row new values (1 + R + K), keep the summary right and log the change."""
        cdef Py_ssize_t column, place, resources = self.resources, columns = self.columns
        cdef Py_ssize_t slot = self.log_group(self.logged) * GROUP + self.logged % GROUP
        cdef int32_t old
        for column in range(1 + resources + columns):
            place = self.cell(row, column)
            old = self.values[place]
            self.values[place] = values[column]
            self.values[self.cell(slot, column)] = values[column]
            if old == values[column]:
                continue
            if column == 0:
                self._lift(row, 0, 1, old, values[0])
                self._lower(row, 0, 0, old, values[0])
            else:
                self._lift(row, column, 1 + column, old, values[column])
                if column > resources:
                    self._lower(row, column, 1 + column + columns, old, values[column])
        self.log_row[self.logged % self.ring] = <int32_t>row
        self.logged += 1
        if self.logged % GROUP == 0:
            self._span_log(self.log_group(self.logged - 1))

    cdef void _span_log(self, Py_ssize_t group) noexcept nogil:
        """Sum up a group of the log that is full."""
        cdef Py_ssize_t column, lane, base, at = (group - self.groups) * 2 * self.columns
        cdef int32_t value, top, bottom
        for column in range(self.columns):
            base = self.at(group, 1 + self.resources + column)
            top, bottom = NONE, UNKNOWN
            for lane in range(GROUP):
                value = self.values[base + lane]
                if value > top:
                    top = value
                if value < bottom:
                    bottom = value
            self.log_span[at + column], self.log_span[at + self.columns + column] = top, bottom

    cdef void _lift(
        self, Py_ssize_t row, Py_ssize_t column, Py_ssize_t at, int32_t old, int32_t new
    ) noexcept nogil:
        """A value became another: the highest of each group and node above it follows."""
        cdef Py_ssize_t child = row // GROUP, base = self.at(child, column), place, lane
        cdef int32_t was, now, value
        cdef int level
        for level in range(self.levels):
            place = ((self.start[level] + child // FAN) * self.summed + at) * FAN + child % FAN
            was = self.summary[place]
            if new >= was:
                now = new
            elif old < was:
                return
            else:
                now = NONE
                if level == 0:
                    for lane in range(GROUP):
                        value = self.values[base + lane]
                        if value > now:
                            now = value
                else:
                    for lane in range(FAN):
                        now = max(now, self.summary[base + lane])
            if now == was:
                return
            self.summary[place] = now
            old, new = was, now
            base = place - child % FAN
            child = child // FAN

    cdef void _lower(
        self, Py_ssize_t row, Py_ssize_t column, Py_ssize_t at, int32_t old, int32_t new
    ) noexcept nogil:
        """The same for the lowest."""
        cdef Py_ssize_t child = row // GROUP, base = self.at(child, column), place, lane
        cdef int32_t was, now, value
        cdef int level
        for level in range(self.levels):
            place = ((self.start[level] + child // FAN) * self.summed + at) * FAN + child % FAN
            was = self.summary[place]
            if new <= was:
                now = new
            elif old > was:
                return
            else:
                now = UNKNOWN
                if level == 0:
                    for lane in range(GROUP):
                        value = self.values[base + lane]
                        if value < now:
                            now = value
                else:
                    for lane in range(FAN):
                        now = min(now, self.summary[base + lane])
            if now == was:
                return
            self.summary[place] = now
            old, new = was, now
            base = place - child % FAN
            child = child // FAN


def _scale_of(values, steps, given=None):
    """(K,) powers of two that make every raw value and step whole and small enough for int32; None if none do.
    ``values`` (K, N), ``steps`` (K, classes); ``given``: only these are tried."""
    scale = np.ones(len(values))
    for column in range(len(values)):
        numbers = np.concatenate((values[column], steps[column]))
        for power in range(11):
            factor = float(2**power) if given is None else given[column]
            scaled = numbers * factor
            if not (scaled % 1 != 0).any():
                break
        if (scaled % 1 != 0).any() or (np.abs(scaled) > WIDEST).any():
            return None
        scale[column] = factor
    return scale
