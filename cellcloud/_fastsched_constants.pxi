# Sizes and bounds, and what the machine can do. Included by _fastsched.pyx.

cdef extern from *:
    """
    /* The x86-64 level of this machine: 2, 3 or 4; 0 elsewhere. */
    static int fastsched_level(void) {
    #if defined(__x86_64__) && defined(__GNUC__)
        __builtin_cpu_init();
        return __builtin_cpu_supports("x86-64-v4") ? 4 : __builtin_cpu_supports("x86-64-v3") ? 3 : 2;
    #else
        return 0;
    #endif
    }

    /* Let the cache line at an address be on its way. */
    static inline void fastsched_fetch(const void *address) {
    #if defined(__GNUC__)
        __builtin_prefetch(address);
    #endif
    }
    """
    int fastsched_level() noexcept nogil
    void fastsched_fetch(const void *address) noexcept nogil

cdef enum:
    GROUP = 64  # rows of a group
    HALF = 32  # bits of a word
    FAN = 16  # children of a node
    LEVELS = 8
    MOST = 32  # MOST_COLUMNS
    EPOCHS = 16  # epochs a class remembers
    WARM_STARTS = 8  # rows a choice leaves to the next one
    LINE = 16  # values of a cache line
    FEW = 10  # log entries that are looked at one by one
    RANKED = 64  # more hosts than this are sorted, not inserted
    NONE = -2147483648
    UNKNOWN = 2147483647
    WIDEST = 1073741823  # of a raw value: differences fit int32

cdef double NEVER = -1e300  # no host fits
cdef double ANY = 1e300  # not known yet
cdef float LEAST = -3e38
cdef double UP = 1.0 + 1.0 / (1 << 18)  # more than float32 loses over MOST columns
cdef double DOWN = 1.0 - 1.0 / (1 << 18)
cdef double TINY = 1.1754943508222875e-38  # the least normal float32


def level():
    """The x86-64 level of this machine: 2, 3 or 4; 0 on other machines."""
    return fastsched_level()
