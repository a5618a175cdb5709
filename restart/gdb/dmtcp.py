"""gdb commands for restarted processes.

    gdb -p PID -x dmtcp.py -ex dmtcp-symbols -ex 'thread apply all bt'

dmtcp-symbols     reads the symbols of the program and of all of its libraries, wherever they are in memory. A restarted
                  process may show gdb neither its program (/proc/PID/exe) nor mappings of its libraries; the list that
                  the dynamic linker keeps is in its memory all the same, and is what this goes by.
dmtcp-continue    lets a restart go on that pauses at a stage (DMTCP_RESTART_PAUSE).

A library that is not at its old path is looked for among those that dmtcp-symbols is given as arguments.
"""

import os
import struct

import gdb

AT_PHDR, AT_PHNUM = 3, 5
PT_DYNAMIC, PT_PHDR = 2, 6
DT_DEBUG = 21


def memory(address, form):
    """The values of a struct in the process."""
    data = gdb.selected_inferior().read_memory(address, struct.calcsize(form))
    return struct.unpack(form, bytes(data))


def string(address):
    """A string in the process."""
    return gdb.Value(address).cast(gdb.lookup_type("char").pointer()).string(errors="replace")


def auxiliary_vector(pid):
    """What the kernel, or a restart, told the program."""
    with open(f"/proc/{pid}/auxv", "rb") as file:
        data = file.read()
    return dict(struct.iter_unpack("<QQ", data[: len(data) // 16 * 16]))


def linked(pid):
    """Pairs of file and load address: the program first, then its libraries in the order of the dynamic linker."""
    vector = auxiliary_vector(pid)
    bias, dynamic = 0, None
    for index in range(vector[AT_PHNUM]):
        header = memory(vector[AT_PHDR] + index * 56, "<IIQQQQQQ")
        if header[0] == PT_PHDR:
            bias = vector[AT_PHDR] - header[3]
        elif header[0] == PT_DYNAMIC:
            dynamic = header[3]
    if dynamic is None:
        raise gdb.GdbError("the program is linked statically: it has no list of libraries")
    at = bias + dynamic
    while True:
        tag, value = memory(at, "<qQ")
        if tag == 0:
            raise gdb.GdbError("the dynamic linker has not told where its list is")
        if tag == DT_DEBUG:
            break
        at += 16
    (entry,) = memory(value + 8, "<Q")
    while entry:
        load, name, _, following = memory(entry, "<QQQQ")
        yield string(name), load
        entry = following


class Symbols(gdb.Command):
    """Read the symbols of the program and of all its libraries: dmtcp-symbols [PROGRAM] [LIBRARY]..."""

    def __init__(self):
        super().__init__("dmtcp-symbols", gdb.COMMAND_FILES, gdb.COMPLETE_FILENAME)

    def invoke(self, argument, from_tty):
        """Adds the symbol files."""
        pid = gdb.selected_inferior().pid
        if not pid:
            raise gdb.GdbError("there is no process: attach to one first")
        spare = gdb.string_to_argv(argument)
        spares = {os.path.basename(path): path for path in spare}
        known = {objfile.filename for objfile in gdb.objfiles()}
        missing = []
        for index, (name, load) in enumerate(linked(pid)):
            if index == 0:
                name = spare[0] if spare else os.path.realpath(f"/proc/{pid}/exe")
            elif not name.startswith("/"):
                continue
            path = name if os.path.exists(name) else spares.get(os.path.basename(name))
            if path is None:
                missing.append(name)
            elif os.path.realpath(path) not in known and path not in known:
                gdb.execute(f"add-symbol-file {path} -o {load:#x}", to_string=True)
        for name in missing:
            print(f"no symbols: {name} is not there; name another copy of it as an argument")


class Continue(gdb.Command):
    """Let a restart go on that pauses at a stage, and detach."""

    def __init__(self):
        super().__init__("dmtcp-continue", gdb.COMMAND_RUNNING)

    def invoke(self, argument, from_tty):
        """Clears the word that the process waits for."""
        # The frame may be one of another language, which does not know the expression.
        gdb.execute("set language c", to_string=True)
        clear = "set var *(int *)&dmtcp_restart_pause = 0"
        try:
            gdb.execute(clear, to_string=True)
        except gdb.error:
            # gdb has not found the library by itself.
            gdb.execute("dmtcp-symbols", to_string=True)
            try:
                gdb.execute(clear, to_string=True)
            except gdb.error as error:
                raise gdb.GdbError(f"the process does not pause at a stage of its restart: {error}") from error
        gdb.execute("set language auto", to_string=True)
        gdb.execute("detach")


Symbols()
Continue()
