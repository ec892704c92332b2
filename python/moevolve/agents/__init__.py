"""The agent's program: its source as a genome, the sandboxed process it runs in, and the operators that edit
it."""
