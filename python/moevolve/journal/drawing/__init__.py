"""A run in characters: toned lines, and the score curve on a canvas of dots. No terminal here."""
