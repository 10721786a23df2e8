from sipagent cimport native

cdef class Ring:
    cdef bytearray _memory
    cdef Py_ssize_t _size, _at
    cdef bint _full

    cpdef append(self, bytes piece)
