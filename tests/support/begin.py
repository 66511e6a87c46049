"""Begins and ends a module's process as the command line does its own: what nothing uses is not loaded.

`python -m tests.support.begin MODULE ARGUMENT …`
"""

import runpy
import sys

from muse_eval import late

if __name__ == "__main__":
    late.start()
    del sys.argv[0]
    with late.ended_at_once():
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        sys.exit()
