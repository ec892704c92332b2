"""What an improver is told, and what its edits make of a program."""
