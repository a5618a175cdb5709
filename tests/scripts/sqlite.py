"""SQLite in the middle of a transaction: uncommitted rows, file locks and a savepoint live on."""
import os
import sqlite3
import sys
import time
from steps import *

path = os.path.join(os.environ["STEPS_DIR"], "data.sqlite")
db = sqlite3.connect(path, isolation_level=None)
db.execute("create table t(n integer primary key, text)")
db.execute("begin immediate")
db.execute("savepoint inner")
n = 0
while not stopping():
    n += 1
    db.execute("insert into t values(?, ?)", (n, "x" * (n % 100)))
    check(db.execute("select count(*), max(n) from t").fetchone() == (n, n), "rows of the transaction")
    step("main", n)
    time.sleep(0.01)
other = sqlite3.connect(path, isolation_level=None, timeout=0)
try:
    other.execute("begin immediate")
    check(False, "the lock of the transaction is gone")
except sqlite3.OperationalError:
    pass
db.execute("release inner")
db.execute("commit")
check(db.execute("pragma integrity_check").fetchone() == ("ok",), "integrity")
check(other.execute("select sum(length(text)) from t").fetchone()[0] == sum(i % 100 for i in range(1, n + 1)), "sum")
note("DONE")
sys.exit(STATUS)
