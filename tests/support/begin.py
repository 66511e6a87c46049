"""Begins a module's process as the command line begins its own: what nothing uses is not loaded.

`python -m tests.support.begin MODULE ARGUMENT …`
"""

import runpy
import sys

from muse_eval import late

if __name__ == "__main__":
    late.start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
