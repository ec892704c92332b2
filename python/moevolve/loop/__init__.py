"""One run: stages over the archive, its snapshot, its beginning and end."""
