"""Checkpoints from within a Python program.

    import dmtcp
    if dmtcp.is_enabled():
        outcome = dmtcp.checkpoint()
        if outcome == dmtcp.AFTER_RESTART:
            reconnect()

    with dmtcp.uncut():          # no checkpoint is taken in here
        talk_to_device()

Works in any Python 3 without anything installed: the functions are those of dmtcp.h, found in the running process.
Without dmtcp_launch, is_enabled() is False and checkpoint() returns NOT_PRESENT.
"""
import contextlib
import ctypes

AFTER_CHECKPOINT = 1
AFTER_RESTART = 2
NOT_PRESENT = 3
_IS_PRESENT = 4

_process = ctypes.CDLL(None)


def _call(name, absent, *arguments, result=ctypes.c_int):
    """Call a function of dmtcp.h; what is not there answers `absent`."""
    try:
        function = getattr(_process, name)
    except AttributeError:
        return absent
    function.restype = result
    return function(*arguments)


def is_enabled():
    """Whether the program runs under dmtcp_launch or dmtcp_restart."""
    return _call("dmtcp_is_enabled", 0) == 1


def checkpoint():
    """Take a checkpoint of the whole computation.

    Returns AFTER_CHECKPOINT when it is on disk, AFTER_RESTART in the program that was restarted from it, NOT_PRESENT
    without dmtcp_launch. Raises RuntimeError if the checkpoint failed; the program can go on.
    """
    outcome = _call("dmtcp_checkpoint", NOT_PRESENT)
    if outcome < 0:
        raise RuntimeError("the checkpoint failed; dmtcp_coordinator says why")
    return outcome


@contextlib.contextmanager
def uncut():
    """A section that no checkpoint cuts; one that is asked for meanwhile waits."""
    _call("dmtcp_disable_ckpt", NOT_PRESENT)
    try:
        yield
    finally:
        _call("dmtcp_enable_ckpt", NOT_PRESENT)


def _pair(name):
    first, second = ctypes.c_int(0), ctypes.c_int(0)
    answer = _call(name, NOT_PRESENT, ctypes.byref(first), ctypes.byref(second))
    return (first.value, second.value) if answer == _IS_PRESENT else None


def coordinator_status():
    """(number of processes, whether all of them run), or None without a coordinator."""
    pair = _pair("dmtcp_get_coordinator_status")
    return pair and (pair[0], pair[1] == 1)


def local_status():
    """(checkpoints, restarts) that this process has been through, or None without dmtcp_launch."""
    return _pair("dmtcp_get_local_status")


def _text(name):
    value = _call(name, None, result=ctypes.c_char_p)
    return value.decode(errors="surrogateescape") if value else ""


def checkpoint_directory():
    """Where the next image goes."""
    return _text("dmtcp_get_ckpt_dir")


def set_checkpoint_directory(path):
    """Choose where the next image goes; created if it is not there."""
    if is_enabled() and _call("dmtcp_set_ckpt_dir", NOT_PRESENT, str(path).encode()) != _IS_PRESENT:
        raise OSError(f"{path} cannot be a checkpoint directory")


def checkpoint_filename():
    """Path of the next image."""
    return _text("dmtcp_get_ckpt_filename")


KVDB_GET, KVDB_SET, KVDB_INCRBY, KVDB_AND, KVDB_OR, KVDB_XOR, KVDB_MIN, KVDB_MAX = range(8)


def value(database, key):
    """The text that any process of the computation has published under a key, or None."""
    room = ctypes.create_string_buffer((64 << 10) + 1)
    answer = _call("dmtcp_kvdb_request", 5, KVDB_GET, database.encode(), key.encode(), b"", room, ctypes.c_size_t(len(room)))
    return room.value.decode(errors="surrogateescape") if answer == 0 else None


def set_value(database, key, text):
    """Publish a text for all processes of the computation. False: it could not be; stderr says why."""
    return _call("dmtcp_kvdb_request", 5, KVDB_SET, database.encode(), key.encode(), text.encode(), None, ctypes.c_size_t(0)) == 0


def change_number(request, database, key, operand):
    """Carry out KVDB_INCRBY, KVDB_MAX ... on a number of the computation, in one step; the number of before, or None."""
    old = ctypes.c_int64(0)
    answer = _call("dmtcp_kvdb_request64", 5, request, database.encode(), key.encode(), ctypes.c_int64(operand), ctypes.byref(old))
    return old.value if answer == 0 else None


def generation():
    """Number of the last checkpoint that this process took part in; 0: none."""
    return _call("dmtcp_get_generation", 0)


def process_name():
    """What tells this process from all others; kept over restarts."""
    return _text("dmtcp_get_uniquepid_str")


# Names that programs written for the original's module use.
isEnabled = is_enabled
checkpointFilename = checkpoint_filename
uniquePidStr = process_name


def numProcesses():
    """Processes of the computation."""
    return (coordinator_status() or (0, False))[0]


def isRunning():
    """Whether all processes of the computation run."""
    return (coordinator_status() or (0, False))[1]


def numCheckpoints():
    """Checkpoints that this process has been through."""
    return (local_status() or (0, 0))[0]


def numRestarts():
    """Restarts that this process has been through."""
    return (local_status() or (0, 0))[1]


def isRestart():
    """Whether this process has been restarted."""
    return numRestarts() > 0


def isResume():
    """Whether this process has been through a checkpoint and never been restarted."""
    return numCheckpoints() > 0 and numRestarts() == 0
