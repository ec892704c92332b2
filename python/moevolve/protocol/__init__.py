"""What crosses a joint between rooms: frozen structs without logic."""
