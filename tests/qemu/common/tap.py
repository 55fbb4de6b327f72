# SPDX-License-Identifier: GPL-2.0
"""Results in TAP, as tests/lib/run-programs wants them."""

import sys
import traceback


class Skip(Exception):
    """A test that cannot be run here, and why."""


def note(text):
    """Something to know about the result that follows."""
    for line in str(text).splitlines():
        print('#', line, flush=True)


def run(suite, tests):
    """Run (name, function) pairs; exit as they went."""
    failed = 0
    print(f'1..{len(tests)}', flush=True)
    for number, (name, function) in enumerate(tests, 1):
        name = f'qemu.{suite}.{name}'
        try:
            function()
        except Skip as why:
            print(f'ok {number} {name} # SKIP {why}', flush=True)
        except Exception as error:  # pylint: disable=broad-except
            if not isinstance(error, AssertionError) or not str(error):
                note(traceback.format_exc())
            else:
                note(error)
            print(f'not ok {number} {name}', flush=True)
            failed = 1
        else:
            print(f'ok {number} {name}', flush=True)
    sys.exit(failed)
