"""The stages of a cycle: practise, learn, search, gate, score; each a function of the run's context."""
