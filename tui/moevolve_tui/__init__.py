"""The terminal view of a run. It reads the run's store and nothing else; see `moevolve_tui.app.main`.

- `model` folds records into a view model, without any terminal.
- `drawing` turns the model into toned lines of text, also without any terminal.
- `reader` polls the store; `widgets` and `app` put the lines on the screen.
"""
