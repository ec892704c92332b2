"""Tools of a suite of one's own: Python functions, run in a process beside the host and outside the sandbox."""
