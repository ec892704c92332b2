"""Edits of any agent without a model: of its prompts, of its parameters, of how its attempts are put together.

Each operator is a function of the program's files, what is known of confirmed attempts, and a source of randomness; it
changes text where it stands, so that comments and layout stay as their author left them.
"""
