"""Alignment of slices as pure functions: what a slice shows, how two lie on each other, where all of them lie."""
