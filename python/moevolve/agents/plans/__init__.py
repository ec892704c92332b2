"""Plans: expressions over opaque texts, whose answers are the policy's by construction.

Where a suite says `answers = "policy"`, a program's `solve(task)` runs once a skill and returns a plan. The host decodes
(`expression`), checks (`check`) and evaluates it (`evaluate`) on every task; nothing that a text says ever comes back.
"""
