"""Which variant of the archive is changed next."""
