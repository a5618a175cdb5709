"""A program that asks for its own checkpoint.

    dmtcp_launch python3 self_checkpoint.py           counts to 10, takes a checkpoint, goes on
    dmtcp_restart ckpt_python3*.dmtcp                 goes on from 11, every time
"""
import time

import dmtcp

with dmtcp.uncut():
    for step in range(1, 11):
        print("step", step, flush=True)
outcome = dmtcp.checkpoint()
print({1: "checkpoint taken", 2: "restarted", 3: "run me under dmtcp_launch"}[outcome], flush=True)
for step in range(11, 21):
    print("step", step, flush=True)
    time.sleep(1)
print(dmtcp.local_status(), flush=True)
