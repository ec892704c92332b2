"""The terminal screens of runs. They read runs' journals and nothing else; see `moevolve_tui.main`.

- `session`, `model` and `replay` follow runs and fold their records, without any terminal.
- `pages` turn a model into rows, `drawing` has what they share, also without any terminal.
- `widgets` and `app` put rows on the screen; `actions` are what keys do; `controls` what is asked of a run.
"""
