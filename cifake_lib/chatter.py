"""What C++ libraries write to the screen past Python, and no setting of theirs turns off.

In a notebook such chatter fills a red box under a cell. It goes to the file descriptor, past
Python's `sys.stderr`; errors and warnings of Python itself are shown as ever.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def native_stderr_held() -> Iterator[None]:
    """Hold back what is written to file descriptor 2; show it if an exception passes."""
    with tempfile.TemporaryFile() as held:
        try:
            original = os.dup(2)
        except OSError:  # No standard error at all, as under pythonw.
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            sys.stderr.write(held.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(original, 2)
            os.close(original)
