"""The page about an alignment: what is measured for it, its pictures, and the step that writes it."""
