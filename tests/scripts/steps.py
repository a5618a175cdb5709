"""Steps for Python programs under test; tests/src/progress.rs says what the lines mean."""
import os

STATUS = 7


def note(text):
    fd = os.open(os.environ["STEPS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, (text + "\n").encode())
    os.close(fd)


def step(stream, n):
    note(f"p {stream} {n}")


def stopping():
    return os.path.exists(os.environ["STEPS_STOP"])


def check(condition, text):
    if not condition:
        note("FAIL " + text)
        os._exit(97)
