"""Write protection of ranges of memory by userfaultfd, which sets a bit in each PTE of a range."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct

# linux/userfaultfd.h
_UFFD_API, _UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xAA, 0xC018AA3F, 0xC020AA00, 0xC018AA06
_UFFD_FEATURE_PAGEFAULT_FLAG_WP, _UFFDIO_REGISTER_MODE_WP, _UFFDIO_WRITEPROTECT_MODE_WP = 1, 2, 1
# Number of the system call by machine.
_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "s390x": 355}


class Userfaultfd:
    """Write protection of ranges of this process.

    Raises
    ------
    OSError
        If the kernel has no userfaultfd with write protection, or does not allow it.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        number = _SYS_USERFAULTFD.get(platform.machine())
        self.file: int = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK) if number else -1
        if self.file < 0:
            raise OSError(ctypes.get_errno(), "userfaultfd")
        try:
            fcntl.ioctl(self.file, _UFFDIO_API, struct.pack("=3Q", _UFFD_API, _UFFD_FEATURE_PAGEFAULT_FLAG_WP, 0))
        except OSError:
            os.close(self.file)
            raise

    def register(self, start: int, length: int) -> None:
        """Make a range (address and bytes) one that can be write-protected."""
        fcntl.ioctl(self.file, _UFFDIO_REGISTER, struct.pack("=4Q", start, length, _UFFDIO_REGISTER_MODE_WP, 0))

    def protect(self, start: int, length: int, on: bool) -> None:
        """Set or clear the write protection of a range."""
        mode = _UFFDIO_WRITEPROTECT_MODE_WP if on else 0
        fcntl.ioctl(self.file, _UFFDIO_WRITEPROTECT, struct.pack("=3Q", start, length, mode))

    def close(self) -> None:
        """Close the file, which ends all protection."""
        os.close(self.file)


def why_no_userfaultfd() -> str:
    """Return why write protection by userfaultfd does not work here, or an empty text if it does."""
    try:
        Userfaultfd().close()
    except OSError as error:
        return f"userfaultfd with write protection is not available ({error.strerror})"
    return ""
