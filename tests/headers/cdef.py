# SPDX-License-Identifier: MIT
"""cffi takes the preprocessed header as it is, and the library answers through it:
cdef.py <preprocessed header> <library> <version>"""
import sys

import cffi

header, library, version = sys.argv[1:]
ffi = cffi.FFI()
with open(header, encoding="utf-8") as text:
    ffi.cdef(text.read())
lib = ffi.dlopen(library)

answer = ffi.string(lib.credstore_version()).decode()
if answer != version:
    sys.exit(f"credstore_version() answered {answer!r}, the header says {version!r}")
if ffi.sizeof("credstore_error") != 256:
    sys.exit("credstore_error is not 256 bytes")
