"""What is computed: one file per step."""
