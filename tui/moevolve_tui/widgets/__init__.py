"""The panes. They draw what the model holds and know nothing of the store."""
