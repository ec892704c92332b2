"""The grader's own process: how skills get there, what runs there, and the hash that seals them."""
