"""The scheduler's compiled kernel. The same ``Index`` as in ``_fastsched_py``, which says what its methods mean.

How it answers without looking at every host, exactly:

- **Rows.** Hosts lie in rows, ordered by host class, in groups of ``GROUP``; a group holds column after column. All
  values are int32 (raw values times a power of two, chosen per column, so that they are whole). A world that does not
  fit this is answered by the reference instead ("wide").
- **Summary.** A 16-ary tree above the groups: for each child the lowest and highest host class, the most free of each
  resource, the lowest and highest of each raw value. It is right at all times.
- **Log.** A ring of the rows that changed, as they were after each change. A class of requests replays what it has
  not seen when it is next used; one that has missed too much starts anew.
- **Extremes.** Per class and weigh column: a value that no fitting host exceeds, and a witness: the row that had it.
  Replay only ever raises the value; a witness that still has the value proves it; else the summary is searched, and
  the old value says when to stop.
- **Bounds.** Per class, for each group and each node of the same tree: a score that no fitting host below exceeds.
  Replay only ever raises a bound; a visit of the group lowers it again. The best hosts are found by visiting where the
  bounds are highest until none can beat what was found.
- **Warm-start set.** Per class the best rows of the last choice and its runners-up: the next choice begins with them,
  so the bounds need not cover them, and often nothing has to be visited.
- **Normalisation epochs.** Scores move when extremes move. Each node remembers the epoch its bounds were made in (the
  extremes of that time), and when it is next looked at its bounds are raised by the most that any host's score can have
  grown since.

Bounds are computed in float32 with factors rounded up so that they are bounds in spite of rounding; whatever might be
among the best gets its score in float64 with the operations of the reference, in the same order.
"""

import numpy as np

from cellcloud._fastsched_py import EXACT, LARGEST_HOST_CLASS, MOST_TIMES, Index as Reference, finite, whole

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

include "_fastsched_constants.pxi"
include "_fastsched_row_summaries.pxi"
include "_fastsched_request_classes.pxi"
include "_fastsched_top_k_scores.pxi"
include "_fastsched_extremes.pxi"
include "_fastsched_search.pxi"
include "_fastsched_scan.pxi"


@cython.final
cdef class Index:
    """A cell's hosts, and the best of them for each class of requests. See ``_fastsched_py.Index``.

    Calls hold the interpreter's lock: they take microseconds, and one index has one writer.
    """

    cdef Py_ssize_t resources, columns
    cdef object floors
    cdef list classes  # by id: _RequestClass or None
    cdef object scale  # (K,) powers of two that make the raw values whole
    cdef Py_ssize_t host_classes  # all hosts' are below
    cdef dict words  # passes as bytes -> the words of all classes with these
    cdef dict tables  # likewise their tables
    cdef _Rows rows
    cdef _Best best
    cdef _ExtremeSearch extremes
    cdef object wide  # the reference, while the hosts' values do not fit int32
    cdef dict wide_ids

    def __init__(self, Py_ssize_t resources, floors):
        self.wide = Reference(resources, floors)  # refuses what is absurd
        self.resources, self.floors = resources, [bool(floor) for floor in floors]
        self.columns = len(self.floors)
        self.classes, self.wide_ids, self.words, self.tables = [], {}, {}, {}
        self.best, self.extremes = _Best(), _ExtremeSearch()
        self.load(np.zeros(0, np.int32), np.zeros((self.resources, 0), np.int64), np.zeros((self.columns, 0)))

    @property
    def hosts(self):
        """How many hosts are loaded."""
        return self.rows.hosts if self.wide is None else self.wide.hosts

    @property
    def nbytes(self):
        """Bytes that the index takes: rows, summary, log, and what is known for each class."""
        cdef _RequestClass cls
        cdef size_t total = 0
        if self.wide is not None:
            return self.wide.nbytes
        for cls in self.classes:
            if cls is not None:
                total += cls.nbytes()
        total += sum(words.nbytes for words in self.words.values())
        total += sum(one.nbytes for table in self.tables.values() for one in table)
        return total + self.rows.nbytes()

    @property
    def buffers(self):
        """Of ``nbytes`` what does not grow with the hosts: the log up to its longest, and each class's history."""
        cdef _RequestClass cls
        cdef size_t total = 0
        if self.wide is not None:
            return 0
        for cls in self.classes:
            if cls is not None:
                total += cls.buffers()
        total += sum(one.nbytes for table in self.tables.values() for one in table)
        return total + self.rows.buffers()

    def load(self, host_class, free, raw):
        kinds = whole(host_class, "host_class", (None,), lowest=0, highest=LARGEST_HOST_CLASS)
        amounts = whole(free, "free", (self.resources, len(kinds)))
        self._settle(kinds, amounts, finite(raw, "raw", (self.columns, len(kinds))))

    cdef object _settle(self, kinds, amounts, values):
        """Hold these hosts: in rows if they fit, else wide."""
        cdef _RequestClass cls
        steps = [cls.given_step for cls in self.classes if cls is not None]
        scale = _scale_of(values, np.array(steps).reshape(len(steps), self.columns).T)
        if scale is None or (amounts.size and np.abs(amounts).max() >= UNKNOWN):
            return self._widen(kinds, amounts, values)
        self.wide, self.scale = None, scale
        self.host_classes = int(kinds.max()) + 1 if len(kinds) else 0
        scaled = (values * scale[:, None]).astype(np.int32)
        self.words, self.tables = {}, {}
        self.rows = _Rows((kinds + 1).astype(np.int32), amounts.astype(np.int32), scaled)
        for cls in self.classes:
            if cls is not None:
                self._prepare(cls)

    cdef object _widen(self, kinds, amounts, values):
        cdef _RequestClass cls
        self.wide = Reference(self.resources, self.floors)
        self.wide.load(kinds, amounts, values)
        self.wide_ids = {
            number: self.wide.add_class(cls.given_need, cls.given_passes, cls.given_multipliers, cls.given_step)
            for number, cls in enumerate(self.classes)
            if cls is not None
        }

    cdef object _unload(self):
        """All hosts as they were loaded: host classes, free, raw."""
        cdef _Rows rows = self.rows
        values = np.asarray(rows.values)[: rows.groups * rows.width].reshape(rows.groups, -1, GROUP)
        place = np.asarray(rows.row_of)
        table = values[place // GROUP, :, place % GROUP].astype(np.int64).T
        free, raw = table[1 : 1 + self.resources], table[1 + self.resources :] / self.scale[:, None]
        return table[0] - 1, free.copy(), raw

    def set_host(self, position, host_class, free, raw):
        if self.wide is not None:
            return self.wide.set_host(position, host_class, free, raw)
        place = self._position(position)
        kind = whole([host_class], "host_class", (1,), lowest=0, highest=LARGEST_HOST_CLASS)
        amounts = whole(free, "free", (self.resources,))
        self._put(place, int(kind[0]), amounts, finite(raw, "raw", (self.columns,)))

    cdef object _put(self, Py_ssize_t place, Py_ssize_t kind, amounts, values):
        cdef int32_t row[1 + 2 * MOST]
        cdef Py_ssize_t column
        cdef _RequestClass cls
        scaled = values * self.scale
        if (np.abs(amounts) >= UNKNOWN).any() or (np.abs(scaled) > WIDEST).any() or (scaled % 1 != 0).any():
            kinds, free, raw = self._unload()
            kinds[place], free[:, place], raw[:, place] = kind, amounts, values
            return self._settle(kinds, free, raw)
        if kind >= self.host_classes:
            self.host_classes, self.tables = kind + 1, {}
            for cls in self.classes:
                if cls is not None:
                    _tabulate(cls, self.host_classes, self.tables)
        if self.rows.values[self.rows.cell(self.rows.row_of[place], 0)] != kind + 1:
            self._mark(self.rows.row_of[place], kind)
        row[0] = <int32_t>(kind + 1)
        for column in range(self.resources):
            row[1 + column] = amounts[column]
        for column in range(self.columns):
            row[1 + self.resources + column] = <int32_t>scaled[column]
        self.rows.write(self.rows.row_of[place], row)

    cdef object _mark(self, Py_ssize_t row, Py_ssize_t kind):
        """A row has another host class: it passes where that one does."""
        cdef uint32_t bit = (<uint32_t>1) << (row % HALF)
        cdef uint32_t[::1] words
        for key, words in self.words.items():
            if kind < len(key) and key[kind]:
                words[row // HALF] |= bit
            else:
                words[row // HALF] &= ~bit

    def row(self, position):
        cdef Py_ssize_t place, column
        if self.wide is not None:
            return self.wide.row(position)
        place = self.rows.row_of[self._position(position)]
        values = [self.rows.values[self.rows.cell(place, column)] for column in range(1 + self.resources + self.columns)]
        free = np.array(values[1 : 1 + self.resources], dtype=np.int64)
        return values[0] - 1, free, np.array(values[1 + self.resources :], dtype=np.float64) / self.scale

    def add_class(self, need, passes, multipliers, step):
        cdef _RequestClass cls = _RequestClass()
        probe = Reference(self.resources, self.floors)
        probe.add_class(need, passes, multipliers, step)  # refuses what is absurd
        cls.given_need, cls.given_passes = np.array(need, dtype=np.int64), np.array(passes) != 0
        cls.given_multipliers, cls.given_step = np.array(multipliers, np.float64), np.array(step, np.float64)
        number = len(self.classes)
        self.classes.append(cls)
        if self.wide is not None:
            self.wide_ids[number] = self.wide.add_class(need, passes, multipliers, step)
        elif _scale_of(np.zeros((self.columns, 0)), (cls.given_step * 1.0)[:, None], self.scale) is None:
            kinds, free, raw = self._unload()
            self._settle(kinds, free, raw)
        else:
            self._prepare(cls)
        return number

    cdef object _prepare(self, _RequestClass cls):
        """Translate a class into the rows' terms; it knows nothing of the rows yet."""
        cdef _Rows rows = self.rows
        cdef Py_ssize_t column
        cls.asked = 0
        for column in range(self.resources):
            cls.take[column] = int(cls.given_need[column])
            if cls.take[column]:
                cls.asked_column[cls.asked] = <int>(1 + column)
                cls.asked_amount[cls.asked] = <int32_t>min(cls.take[column], <int64_t>UNKNOWN)
                cls.asked += 1
        for column in range(self.columns):
            cls.step[column] = int(cls.given_step[column] * self.scale[column])
            cls.floors[column] = self.floors[column]
        _tabulate(cls, self.host_classes, self.tables)
        key = cls.given_passes.tobytes()
        if key not in self.words:
            self.words[key] = _words(rows, cls)
        cls.words = self.words[key]
        cls.bound = np.full(rows.nodes * FAN, NEVER)
        cls.node_epoch = np.zeros(rows.nodes, dtype=np.int64)

    def set_passes(self, class_id, passes, multipliers=None):
        cdef _RequestClass cls = self._class(class_id)
        probe = Reference(self.resources, self.floors)
        probe.add_class(cls.given_need, cls.given_passes, cls.given_multipliers, cls.given_step)
        probe.set_passes(0, passes, multipliers)  # refuses what is absurd
        if multipliers is None:
            multipliers = cls.given_multipliers
        cls.given_passes, cls.given_multipliers = np.array(passes) != 0, np.array(multipliers, np.float64)
        if self.wide is not None:
            self.wide.set_passes(self.wide_ids[class_id], passes, multipliers)
        else:
            self._prepare(cls)

    def drop_class(self, class_id):
        self._class(class_id)
        self.classes[class_id] = None
        used = {(<_RequestClass>cls).given_passes.tobytes() for cls in self.classes if cls is not None}
        self.words = {key: words for key, words in self.words.items() if key in used}
        self.tables = {key: table for key, table in self.tables.items() if key in used}
        if self.wide is not None:
            self.wide.drop_class(self.wide_ids.pop(class_id))

    def fitting(self, class_id):
        cdef _RequestClass cls = self._class(class_id)
        if self.wide is not None:
            return self.wide.fitting(self.wide_ids[class_id])
        return np.sort(_all_fitting(self.rows, cls)).astype(np.int64)

    def choose(self, Py_ssize_t class_id, Py_ssize_t count, exclude=()):
        cdef _RequestClass cls = self._class(class_id)
        cdef Py_ssize_t i
        if self.wide is not None or not 0 < count <= RANKED:
            return self.choose_scored(class_id, count, exclude)[0]
        self._run(cls, count, exclude)
        return [self.best.position[i] for i in range(self.best.found)]

    def choose_scored(self, Py_ssize_t class_id, Py_ssize_t count, exclude=()):
        cdef _RequestClass cls = self._class(class_id)
        cdef Py_ssize_t i
        if count < 0:
            raise ValueError("count: negative")
        if self.wide is not None:
            return self.wide.choose_scored(self.wide_ids[class_id], count, exclude)
        if count >= RANKED:
            return self._sort(cls, count, exclude)
        self._run(cls, max(count, 2), exclude)
        if self.best.found == 1:
            self.best.score[0] = 0.0  # a host that is alone is not weighed
        count = min(count, self.best.found)
        return [self.best.position[i] for i in range(count)], [self.best.score[i] for i in range(count)]

    cdef object _run(self, _RequestClass cls, Py_ssize_t count, exclude):
        cdef _Rows rows = self.rows
        cdef Py_ssize_t row
        hidden = () if exclude is () else [rows.row_of[self._position(place)] for place in exclude]
        self.best.begin(count)
        for row in hidden:
            rows.hidden[row // GROUP] |= (<uint64_t>1) << (row % GROUP)
        _choose(rows, cls, self.best, self.extremes, len(hidden) > 0)
        for row in hidden:
            rows.hidden[row // GROUP] = 0

    cdef object _sort(self, _RequestClass cls, Py_ssize_t count, exclude):
        """All hosts' order, for a count that is not worth a search."""
        cdef _Rows rows = self.rows
        cdef Py_ssize_t row
        hidden = [rows.row_of[self._position(place)] for place in exclude]
        for row in hidden:
            rows.hidden[row // GROUP] |= (<uint64_t>1) << (row % GROUP)
        places, scores = _all_scores(rows, cls)
        for row in hidden:
            rows.hidden[row // GROUP] = 0
        order = np.lexsort((places, -scores))[:count]
        return places[order].tolist(), scores[order].tolist()

    def scan(self, Py_ssize_t class_id, Py_ssize_t count):
        cdef _RequestClass cls = self._class(class_id)
        cdef Py_ssize_t i
        if self.wide is not None or not 0 < count <= RANKED:
            return self.choose_scored(class_id, count)[0]
        self.best.begin(count)
        _scan(self.rows, _scan_class(self.rows, cls), self.best)
        return [self.best.position[i] for i in range(self.best.found)]

    def claim(self, Py_ssize_t class_id, Py_ssize_t position, Py_ssize_t times=1):
        cdef _RequestClass cls = self._class(class_id)
        if not -MOST_TIMES <= times <= MOST_TIMES:
            raise ValueError(f"times: beyond {MOST_TIMES}")
        if self.wide is not None:
            self.wide.claim(self.wide_ids[class_id], position, times)
        elif not self._take(cls, self.rows.row_of[self._position(position)], times):
            kind, free, raw = self.row(position)
            free, raw = free - cls.given_need * times, raw + cls.given_step * times
            if (np.abs(free) > EXACT).any() or (np.abs(raw) > EXACT).any():
                raise ValueError("times: the host's amounts would be beyond 2**53")
            self._put(position, kind, free, raw)

    def release(self, Py_ssize_t class_id, Py_ssize_t position, Py_ssize_t times=1):
        self.claim(class_id, position, -times)

    cdef bint _take(self, _RequestClass cls, Py_ssize_t row, Py_ssize_t times) noexcept:
        """Take the class's amounts from a row. Returns False, and takes nothing, if they would not fit int32."""
        cdef int32_t values[1 + 2 * MOST]
        cdef _Rows rows = self.rows
        cdef Py_ssize_t column
        cdef int64_t value
        values[0] = rows.values[rows.cell(row, 0)]
        for column in range(self.resources):
            value = rows.values[rows.cell(row, 1 + column)] - cls.take[column] * times
            if not -UNKNOWN < value < UNKNOWN:
                return False
            values[1 + column] = <int32_t>value
        for column in range(self.columns):
            value = _raw(rows, cls, row, column) + cls.step[column] * times
            if not -WIDEST <= value <= WIDEST:
                return False
            values[1 + self.resources + column] = <int32_t>value
        rows.write(row, values)
        return True

    def place(self, Py_ssize_t class_id, Py_ssize_t servers, Py_ssize_t count=1):
        cdef _RequestClass cls = self._class(class_id)
        cdef Py_ssize_t i, number
        if servers < 0 or count < 1:
            raise ValueError("servers: negative" if servers < 0 else "count: below 1")
        if self.wide is not None:
            return self.wide.place(self.wide_ids[class_id], servers, count)
        chosen = []
        for number in range(servers):
            if count <= RANKED:
                self.best.begin(count)
                _choose(self.rows, cls, self.best, self.extremes, False)
                best = [self.best.position[i] for i in range(self.best.found)]
            else:
                best = self.choose(class_id, count)
            if not best:
                break
            if not self._take(cls, self.rows.row_of[best[0]], 1):
                self.claim(class_id, best[0])
            chosen.append(best)
            if self.wide is not None:
                return chosen + self.wide.place(self.wide_ids[class_id], servers - len(chosen), count)
        return chosen

    cdef inline _RequestClass _class(self, Py_ssize_t class_id):
        cdef object found = None
        if 0 <= class_id < len(self.classes):
            found = self.classes[class_id]
        if found is None:
            raise ValueError(f"class {class_id}: there is none")
        return <_RequestClass>found

    cdef inline Py_ssize_t _position(self, Py_ssize_t position) except -1:
        if not 0 <= position < self.rows.hosts:
            raise ValueError(f"position {position}: there are {self.rows.hosts} hosts")
        return position
