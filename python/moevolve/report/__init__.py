"""What readers make of a run's journal: figures (`summary`), text (`terminal`), a page (`html`)."""
