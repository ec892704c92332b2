"""Tasks: what is asked, by whom it is made, who grades it, and which split it belongs to."""
