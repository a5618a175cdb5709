"""A program with a section that no checkpoint may cut.

    dmtcp_launch python3 critical_section.py
"""
import itertools
import time

import dmtcp

for number in itertools.count(1):
    with dmtcp.uncut():
        before = dmtcp.generation()
        time.sleep(0.3)
        after = dmtcp.generation()
    print(f"round {number}:", "whole" if before == after else "cut", flush=True)
    time.sleep(0.01)
