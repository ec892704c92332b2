"""Any OpenAI-compatible server as the policy: asking, retrying, accounting, and a record of every exchange."""
