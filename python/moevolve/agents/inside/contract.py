"""Types that a program's files import: `from contract import Edit, Recipe`."""


class Edit:
    """One proposed change: the whole new text of one file, and what made it."""

    __slots__ = ("path", "text", "operator", "summary")

    def __init__(self, path, text, operator, summary):
        self.path = path
        self.text = text
        self.operator = operator
        self.summary = summary


class Recipe:
    """How a learning stage trains; the host clamps every field to its bounds."""

    __slots__ = ("learning_rate", "steps", "batch", "recent", "program_share", "focus")

    def __init__(self, learning_rate=1e-3, steps=60, batch=96, recent=0.6, program_share=0.5, focus=0.0):
        self.learning_rate = learning_rate
        self.steps = steps
        self.batch = batch
        self.recent = recent
        self.program_share = program_share
        self.focus = focus
