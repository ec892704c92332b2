"""What runs inside: on the agent's interpreter, with the standard library alone."""
